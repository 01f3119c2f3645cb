// The beginning. To add a view: write view_NAME.js beside this file and put its `view` into the list below.

import { Session } from "./session.js";
import { Shell } from "./shell.js";
import { view as servers } from "./view_servers.js";

const VIEWS = [servers];

const session = new Session();
new Shell(document.getElementById("app"), session, VIEWS).draw();
session.start();
