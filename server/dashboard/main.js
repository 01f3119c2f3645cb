// The beginning. To add a view: write view_NAME.js beside this file and put its `view` into the list below.

import { askPerson } from "./ask.js";
import { submitByHand } from "./dom.js";
import { config } from "./place.js";
import { Session } from "./session.js";
import { Shell } from "./shell.js";
import { view as approvals } from "./view_approvals.js";
import { view as groups } from "./view_groups.js";
import { view as installs } from "./view_installs.js";
import { view as journal } from "./view_journal.js";
import { view as live } from "./view_live.js";
import { view as logs } from "./view_logs.js";
import { view as servers } from "./view_servers.js";
import { view as tools } from "./view_tools.js";

const VIEWS = [
  servers,
  tools,
  live,
  logs,
  journal,
  installs,
  approvals,
  groups,
];

if (config.transport === "app") submitByHand(document);
document.documentElement.dataset.transport = config.transport;
const session = new Session();
session.onask = askPerson;
new Shell(document.getElementById("app"), session, VIEWS).draw();
session.start();
