"""Acceptance 30 to 40: of the host's files there are only those of the system, and out come only plain ones."""

from __future__ import annotations

import secrets
from pathlib import PurePosixPath

import pytest

from boxes import CALLS, USERS, Boxes, RaisedError

pytestmark = pytest.mark.parametrize("user", USERS, scope="module")


def test_30_the_list_of_users_is_a_made_up_one(boxes: Boxes) -> None:
    value = boxes.value("open('/etc/passwd').read()")
    assert value == "sandbox:x:1000:1000:sandbox:/workspace:/bin/sh\n"
    assert boxes.value("import getpass, os, pwd; [getpass.getuser(), pwd.getpwuid(os.getuid()).pw_dir]") == [
        "sandbox",
        "/workspace",
    ]


def test_31_to_33_what_is_private_of_the_host_is_not_there(boxes: Boxes) -> None:
    canary = boxes.place / f"canary-{secrets.token_hex(4)}"
    canary.write_text("of the host")
    canary.chmod(0o644)
    paths = [
        str(canary),
        str(boxes.state),
        "/etc/shadow",
        "/root",
        "/home",
        "/var",
        "/sys",
        "/proc",
        "/run",
        "/boot",
    ]
    paths += ["/old", "/mnt", "/srv", "/media", "/etc/hostname", "/etc/ssh", "/etc/resolv.conf"]
    value = boxes.value(f"import os\n[one for one in {paths} if os.path.lexists(one)]")
    assert value == []


def test_34_the_root_cannot_be_listed(boxes: Boxes) -> None:
    assert (
        boxes.value(f"{CALLS}\n[error(os.listdir, one) for one in ('/', '/dev', '/opt/toolscore')]")
        == ["EACCES"] * 3
    )


def test_35_the_environment_is_fixed(boxes: Boxes) -> None:
    value = boxes.value("import os; dict(os.environ)")
    value.pop("LD_LIBRARY_PATH", None)
    assert set(value) == {
        "HOME",
        "LANG",
        "LOGNAME",
        "MALLOC_ARENA_MAX",
        "MPLBACKEND",
        "MKL_NUM_THREADS",
        "MPLCONFIGDIR",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "PATH",
        "PYTHONDONTWRITEBYTECODE",
        "SHELL",
        "TERM",
        "TMPDIR",
        "TZ",
        "USER",
    }
    assert "of-the-host" not in str(value)


def test_36_no_environment_of_another_process_can_be_read(boxes: Boxes) -> None:
    value = boxes.value(
        "import os\n[one for one in ('/proc/self/environ', '/proc/1/environ', '/proc/mounts') if os.path.exists(one)]"
    )
    assert value == []


def test_36b_the_hosts_secret_is_nowhere_in_the_codes_memory(boxes: Boxes) -> None:
    value = boxes.value(
        """
import ctypes, os
libc = ctypes.CDLL(None)
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
stack = []
for place in range(0, 1 << 16, 4096):
    try:
        stack.append(ctypes.string_at(ctypes.addressof(environ.contents) + place, 8))
    except Exception:
        break
    break
names = []
count = 0
while environ[count]:
    names.append(environ[count].decode())
    count += 1
[one for one in names if "SECRET" in one]
"""
    )
    assert value == []


def test_37_nothing_can_be_written_outside_the_box(boxes: Boxes) -> None:
    paths = ["/", "/usr", "/usr/bin", "/etc", "/opt", "/opt/toolscore", "/dev", "/lib", "/bin", "/opt/python"]
    value = boxes.value(
        f"""{CALLS}
paths = {paths}
def make(path):
    with open(path + "/made", "w"): pass
def change(path):
    with open(path, "r+"): pass
made = [error(make, one) for one in paths] + [error(os.mkdir, one + "/made") for one in paths]
made += [error(change, one) for one in ("/etc/passwd", "/usr/bin/env", "/etc/hosts")]
made += [error(os.unlink, "/etc/passwd"), error(os.rename, "/etc/passwd", "/etc/other"),
         error(os.chmod, "/usr/bin/env", 0o777), error(os.utime, "/usr/bin/env"), error(os.rmdir, "/workspace"),
         error(os.symlink, "x", "/usr/made"), error(os.link, "/etc/passwd", "/workspace/passwd"),
         error(os.mknod, "/workspace/device", 0o020666, os.makedev(1, 1)),
         error(os.mknod, "/workspace/block", 0o060666, os.makedev(8, 0))]
made
"""
    )
    assert None not in value
    assert set(value) <= {"EROFS", "EACCES", "EPERM", "ENOENT", "EBUSY", "EXDEV", "ENOTDIR"}


def test_38_only_plain_files_come_back(boxes: Boxes) -> None:
    done = boxes.run(
        """
import os, socket
os.makedirs("folder/inner")
open("folder/inner/plain.txt", "w").write("plain")
os.symlink("/etc/passwd", "link")
os.symlink("/", "root")
os.symlink("folder/inner/plain.txt", "to_plain")
os.symlink("/tmp", "folder/tmp")
open("/tmp/hidden", "w").write("hidden")
os.mkfifo("fifo")
os.link("folder/inner/plain.txt", "second")
os.symlink("loop", "loop")
"""
    )
    assert done.status == "ok", done
    assert all(data == b"plain" for _, data in done.files.values())
    assert set(done.files) <= {"folder/inner/plain.txt", "second"}
    assert done.took < 15  # nobody waited for the other end of the fifo


def test_38b_links_that_are_swapped_while_the_call_ends_lead_nowhere(boxes: Boxes) -> None:
    done = boxes.run(
        """
import os, threading
os.mkdir("a")
open("a/f", "w").write("inside")
os.symlink("/etc", "b")
ready = threading.Event()
def swap():
    while True:
        os.rename("a", "c"); os.rename("b", "a"); os.rename("a", "b"); os.rename("c", "a")
        ready.set()
threading.Thread(target=swap, daemon=True).start()
if os.fork() == 0:
    swap()
ready.wait()
"""
    )
    assert all(data == b"inside" for _, data in done.files.values())


def test_39_odd_names_are_safe_or_left_out(boxes: Boxes) -> None:
    done = boxes.run(
        r"""
names = [b"line\nfeed", b"\xff\xfe raw", b"tab\tand\x1b[31mred", b"-rf", b"..hidden", b"a\\b", b"x" * 255,
         b"\xed\xa0\x80", b" ", b"con", "\u202egnp.exe".encode(), b"c:stream", b"%2e%2e%2fup", b"\x7f", b"~"]
for name in names:
    open(name, "w").write("odd")
try:
    open(b"x" * 300, "w")
except OSError as error:
    print(error.strerror)
"""
    )
    assert done.status == "ok", done
    assert done.stdout == b"File name too long\n"
    for path in done.files:
        path.encode()
        assert not path.startswith("/")
        assert ".." not in PurePosixPath(path).parts
        assert "\n" not in path
        assert "\x1b" not in path
    for line in done.skipped:
        line.encode()
        assert "\n" not in line
        assert "\x1b" not in line


def test_39b_folders_without_end_do_not_hold_up_the_answer(boxes: Boxes) -> None:
    done = boxes.run(
        """
import os
try:
    while True:
        os.mkdir("deep"); os.chdir("deep")
except OSError:
    pass
""",
        wall=30.0,
    )
    assert done.status == "ok", done
    assert done.files == {}
    assert done.took < 25


def test_39c_a_flood_of_files_does_not_hold_up_the_answer(boxes: Boxes) -> None:
    done = boxes.run("for one in range(4000): open(f'f{one}', 'w').write('x')")
    assert done.status == "ok", done
    assert len(done.files) <= 4000
    assert done.took < 20


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "", ".", "a//b", "x\0y", "/etc/passwd"])
def test_40_input_that_would_leave_the_folder_is_refused_before_anything_runs(
    boxes: Boxes, path: str
) -> None:
    from pydantic import ValidationError

    from toolscore.sandbox.arguments import ExecuteArguments

    with pytest.raises(ValidationError):
        ExecuteArguments.model_validate({"code": "1", "files": [{"path": path, "text": "x"}]})


def test_40b_input_is_there_under_its_name(boxes: Boxes) -> None:
    given = [("data.txt", b"data"), ("folder/deeper/more.bin", b"\0\xff")]
    code = "[open('data.txt').read(), open('folder/deeper/more.bin', 'rb').read().hex()]"
    done = boxes.run(code, files=given)
    assert done.value == ["data", "00ff"]
    assert done.files == {}


def test_40c_input_does_not_follow_links_of_earlier_code(boxes: Boxes) -> None:
    with boxes.session() as session:
        boxes.value(
            "import os; os.symlink('/tmp', 'folder'); os.symlink('/tmp/target', 'file'); 1", session=session
        )
        value = boxes.value(
            "import os; [os.path.islink('file'), os.path.exists('/tmp/target'), open('file').read()]",
            session=session,
            files=[("file", b"given")],
        )
        assert value == [False, False, "given"]
        with pytest.raises(RaisedError, match=r"InputRefusedError.*folder/inner: Not a directory"):
            boxes.run("1", session=session, files=[("folder/inner", b"x")])
        # The session goes on.
        assert boxes.value("import os; os.path.exists('/tmp/inner')", session=session) is False


def test_40d_a_file_that_cannot_be_put_there_is_told_and_nothing_is_run(boxes: Boxes) -> None:
    with boxes.session() as session:
        boxes.value("import os; os.mkdir('folder'); open('file', 'w').close(); 1", session=session)
        for path, reason in (
            ("folder", "Is a directory"),
            ("file/inner", "Not a directory"),
            ("a" * 300, "too long"),
        ):
            with pytest.raises(RaisedError, match=f"{path}: .*{reason}"):
                boxes.run("ran = True", session=session, files=[(path, b"x")])
        with pytest.raises(RaisedError, match="large: No space left"):
            boxes.run("ran = True", session=session, files=[("large", bytes(80 << 20))])
        assert boxes.value("'ran' in globals()", session=session) is False


def test_a_program_that_code_starts_sees_the_packages_of_code_and_none_of_the_hosts(boxes: Boxes) -> None:
    code = """
import subprocess, sys
done = subprocess.run([sys.executable, "-c", "import sys, importlib.util; print([importlib.util.find_spec(one) is None"
                       " for one in ('pip', 'toolscore', 'pytest')])"], capture_output=True, text=True)
done.stdout.strip() or done.stderr
"""
    assert boxes.value(code) == "[True, True, True]"
