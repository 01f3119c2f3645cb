"""The filters: what fails under each of them, and that ordinary programs run."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from toolscore.sandbox.errors import LayerError

if sys.platform != "linux":
    pytest.skip("seccomp is Linux's", allow_module_level=True)

import seccompy

from toolscore.sandbox import payload, seccomp
from toolscore.sandbox.seccomp import Profile
from under_layer import under

# As a payload does it, which has the filter made by another process.
LOADED = "from toolscore.sandbox import linux, payload; linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1); linux.filter_calls"
FULL = f"{LOADED}(seccomp.program('full'))"
REDUCED = f"{LOADED}(payload.for_itself(seccomp.program('reduced', pid=payload.NOBODY)))"
CONFINED = "seccomp.load(seccomp.program('confined'))"
CONNECTED = "seccomp.load(seccomp.program('confined', network=True))"

x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="x86_64 only")


def say(layer: str, code: str, before: str = "") -> Any:
    ended = under(layer, code, before)
    assert ended.status == 0, ended.stderr
    return ended.said


def numbers(names: str) -> dict[str, int]:
    return {name: seccompy.syscall_nr(name) for name in names.split()}


MOUNTS = """mount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr
    setns unshare"""
LOOKING = """ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd perf_event_open bpf userfaultfd add_key
    request_key keyctl io_uring_setup io_uring_enter io_uring_register init_module finit_module delete_module
    kexec_load kexec_file_load reboot syslog open_by_handle_at name_to_handle_at swapon acct quotactl
    settimeofday clock_settime"""
IPC = """memfd_create memfd_secret shmget shmat shmctl semget msgget mq_open socket bind connect listen accept4
    setuid setgid setresuid setreuid setregid setresgid setgroups setfsuid capset seccomp splice tee vmsplice
    execveat sync setxattr landlock_create_ruleset"""


@pytest.mark.parametrize("layer", [FULL, REDUCED])
def test_untrusted_code_cannot_reach_the_rest_of_the_kernel(layer: str) -> None:
    asked = numbers(MOUNTS + " " + LOOKING + " " + IPC)
    said = say(layer, f"said = {{name: call(nr, 0, 0, 0, 0, 0, 0) for name, nr in {asked}.items()}}")
    assert said == dict.fromkeys(asked, "EPERM")


@pytest.mark.parametrize("layer", [CONFINED, CONNECTED])
def test_a_confined_server_cannot_change_or_look_into_the_system(layer: str) -> None:
    asked = numbers(MOUNTS + " " + LOOKING)
    said = say(layer, f"said = {{name: call(nr, 0, 0, 0, 0, 0, 0) for name, nr in {asked}.items()}}")
    assert said == dict.fromkeys(asked, "EPERM")


@pytest.mark.parametrize("layer", [FULL, REDUCED, CONFINED])
def test_no_new_namespace_comes_from_clone(layer: str) -> None:
    clone, clone3 = seccompy.syscall_nr("clone"), seccompy.syscall_nr("clone3")
    flags = (0x80, 0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
    high = 0x10000000 | 1 << 40
    code = f"said = [*(call({clone}, flag, 0, 0, 0, 0) for flag in {(*flags, high)}), call({clone3}, 0, 0)]"
    assert say(layer, code) == ["EPERM"] * 9 + ["ENOSYS"]


@x86
@pytest.mark.parametrize("layer", [FULL, REDUCED, CONFINED, CONNECTED])
def test_the_numbers_of_x32_are_no_way_around(layer: str) -> None:
    wanted = [seccompy.syscall_nr(name) for name in ("getpid", "unshare", "socket")] + [
        521
    ]  # x32's own ptrace
    assert say(layer, f"said = [call(nr | 0x40000000, 0, 0, 0, 0) for nr in {wanted}]") == ["EPERM"] * 4


@x86
@pytest.mark.parametrize("layer", [FULL, REDUCED, CONFINED])
def test_the_32_bit_entry_of_the_kernel_ends_the_process(layer: str) -> None:
    before = """
import mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20 (getpid there); int 0x80; ret
enter = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
"""
    assert under(layer, "enter()", before).status == -signal.SIGSYS


def test_no_socket_of_any_family_can_be_made() -> None:
    code = "said = [error(socket.socket, family, kind) for family in range(46) for kind in (1, 2, 3, 5)]"
    assert set(say(FULL, code)) == {"EPERM"}


def test_a_pair_of_sockets_is_for_streams_only() -> None:
    # A datagram socket of a pair could send to the socket of any program that listens by name.
    code = """
said = [error(socket.socketpair, socket.AF_UNIX, kind) for kind in (1, 5, 2)]
left, right = socket.socketpair()
left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, bytes(16))
said += [error(left.setsockopt, socket.SOL_SOCKET, one, 1 << 20) for one in (socket.SO_SNDBUF, socket.SO_RCVBUF)]
said += [error(left.setsockopt, socket.SOL_SOCKET, 26, bytes(16)), error(left.connect, "/run/x")]  # SO_ATTACH_FILTER
left.sendall(b"hello")
said.append(right.recv(9).decode())
"""
    assert say(FULL, code) == [None, None, "EPERM", "EPERM", "EPERM", "EPERM", "EPERM", "hello"]


def test_files_that_can_only_be_read_cannot_be_locked() -> None:
    code = "import fcntl\nsaid = [error(fcntl.flock, open(os.__file__), one) for one in (1, 2)]"
    for profile in (FULL, REDUCED):
        assert set(say(profile, code)) <= {"EOPNOTSUPP", "ENOTSUP"}  # one number, two names


def test_the_reduced_profile_changes_no_owner_mode_time_or_size_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code = f"""
one = {str(tmp_path / "file")!r}
said = [error(os.chmod, one, 0o4777), error(os.utime, one), error(os.chown, one, -1, -1), error(os.truncate, one, 0),
        error(os.fchmod, os.open(one, os.O_RDWR), 0o777), error(os.ftruncate, os.open(one, os.O_RDWR), 1)]
"""
    assert say(REDUCED, code) == ["EPERM"] * 5 + [None]
    assert say(FULL, code) == [None] * 6


def test_asyncio_threads_and_programs_work_under_the_full_profile() -> None:
    code = """
import asyncio, concurrent.futures, multiprocessing, queue, shutil, tempfile
async def main():
    child = await asyncio.create_subprocess_exec("/bin/echo", "child", stdout=-1)
    out, _ = await child.communicate()
    thread = await asyncio.to_thread(threading.get_native_id)
    return [out.decode().strip(), thread != threading.get_native_id()]
said = asyncio.run(main())
said.append(subprocess.run(["/bin/sh", "-c", "echo a | cat; exit 3"], capture_output=True).returncode)
fork = multiprocessing.get_context("fork")
ours, theirs = fork.Pipe()
process = fork.Process(target=lambda: theirs.send("forked"))
process.start(); said.append(ours.recv()); process.join()
with tempfile.TemporaryDirectory() as folder:
    one = os.path.join(folder, "one")
    open(one, "w").write("text")
    shutil.copytree(folder, folder + "/../" + os.path.basename(folder) + "-copy")
    shutil.rmtree(folder + "-copy")
    os.mkfifo(one + ".fifo")
    said.append(error(os.mknod, one + ".dev", 0o60644, 0x100))
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    said.append(sum(pool.map(len, ["ab"] * 50)))
os.nice(1); os.sched_setaffinity(0, os.sched_getaffinity(0)); os.isatty(0); os.uname()
"""
    assert say(FULL, code) == ["child", True, 3, "forked", "EPERM", 100]


def test_code_without_namespaces_has_threads_but_no_processes() -> None:
    code = """
seen = []
thread = threading.Thread(target=seen.append, args=(1,)); thread.start(); thread.join()
said = [seen, error(os.fork), error(os.execv, "/bin/true", ["true"]), error(subprocess.run, ["/bin/true"])]
"""
    assert say(REDUCED, code) == [[1], "EPERM", "EPERM", "EPERM"]


def test_code_without_namespaces_can_signal_only_itself() -> None:
    code = """
import fcntl
said = [error(os.kill, pid, 0) for pid in (os.getpid(), os.getppid(), -1, 0, 1)]
read, _ = os.pipe()
said += [error(fcntl.fcntl, read, fcntl.F_SETOWN, os.getppid()), error(fcntl.fcntl, read, 10, 9)]  # F_SETSIG
import resource
said.append(error(resource.prlimit, os.getppid(), resource.RLIMIT_CPU))
said.append(error(os.sched_setaffinity, os.getppid(), [0]))
"""
    assert say(REDUCED, code) == [None] + ["EPERM"] * 8
    assert under(REDUCED, "os.abort()").status == -signal.SIGABRT


def test_terminals_and_process_attributes_are_out_of_reach() -> None:
    prctl, personality = seccompy.syscall_nr("prctl"), seccompy.syscall_nr("personality")
    code = f"""
import fcntl
said = [error(fcntl.ioctl, 0, request) for request in (0x5412, 0x541C, 0x5423, 0x8901, 0x5452, 0x541C | 1 << 31)]
said += [call({prctl}, option, 1, 0, 0, 0) for option in (4, 22, 24, 8, 36, 1, 47, 35)]
said += [call({personality}, 0x40000), call({personality}, 0xFFFFFFFF)]
said += [call({prctl}, 39, 0, 0, 0, 0)]
"""
    assert say(FULL, code) == ["EPERM"] * 14 + ["EPERM", 0, 1]


def test_a_confined_server_without_a_network_has_unix_sockets_only() -> None:
    families = "(socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, 16, 17, 38, 40)"
    code = f"said = [error(socket.socket, family, socket.SOCK_DGRAM) for family in {families}]"
    assert say(CONFINED, code) == [None] + ["EPERM"] * 6


def test_a_confined_server_with_a_network_reaches_it_but_no_raw_families() -> None:
    code = """
said = [error(socket.socket, family, socket.SOCK_STREAM) for family in (socket.AF_UNIX, socket.AF_INET)]
said += [error(socket.socket, family, socket.SOCK_RAW) for family in (16, 17, 38, 40, 31)]
said += [error(socket.socket, 16, socket.SOCK_RAW, 9), len(socket.if_nameindex()) > 0]  # NETLINK_AUDIT
"""
    assert say(CONNECTED, code) == [None, None, None, "EPERM", "EPERM", "EPERM", "EPERM", "EPERM", True]


def test_a_confined_server_can_start_programs_and_cannot_type_into_a_terminal() -> None:
    code = """
import fcntl
said = [subprocess.run(["/bin/sh", "-c", "exit 4"]).returncode]
said += [error(fcntl.ioctl, 0, request) for request in (0x5412, 0x541C)]
"""
    assert say(CONFINED, code) == [4, "EPERM", "EPERM"]


def test_every_thread_of_the_process_is_filtered() -> None:
    before = """
go, seen = threading.Event(), []
thread = threading.Thread(target=lambda: (go.wait(), seen.append(error(socket.socket))))
thread.start()
"""
    assert say(FULL, "go.set(); thread.join(); said = seen", before) == ["EPERM"]


def test_preparing_starts_no_program() -> None:
    before = """
def watch(event, arguments):
    if event in ("subprocess.Popen", "os.posix_spawn", "os.fork"):
        raise RuntimeError(event)
sys.addaudithook(watch)
"""
    assert say("seccomp.prepare(); landlock.prepare()", "said = 'quiet'", before) == "quiet"


def test_a_filter_that_is_none_is_refused() -> None:
    layer = """
try:
    seccomp.load(bytes(8 * 3))
except seccomp.LayerError as problem:
    print(problem, file=sys.stderr)
    sys.exit(5)
"""
    assert under(layer, "pass").status == 5


def test_a_profile_says_what_it_does() -> None:
    assert "no sockets, no processes" in seccomp.describe(Profile.REDUCED)
    assert "no processes" not in seccomp.describe("full")
    assert "Unix sockets only" in seccomp.describe("confined")
    assert "internet" in seccomp.describe("confined", network=True)


def test_a_call_this_architecture_does_not_have_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    # The library would ask this kernel by the other architecture's number.
    monkeypatch.setattr(seccompy, "supported", lambda: True)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    for profile in Profile:
        program = seccomp.program.__wrapped__(profile)
        assert len(program) % 8 == 0
        assert len(program) // 8 <= 4096
    monkeypatch.setattr(platform, "machine", lambda: "sparc64")
    with pytest.raises(LayerError, match="sparc64"):
        seccomp.prepare()


def test_another_system_is_told_so() -> None:
    program = "import sys; sys.platform = 'darwin'; from toolscore.sandbox import seccomp; seccomp.prepare()"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert "LayerError: seccomp is Linux's, this is darwin" in done.stderr


def test_a_filter_with_nobodys_number_becomes_that_of_the_process() -> None:
    made = seccomp.program("reduced", pid=payload.NOBODY)
    assert payload.for_itself(made) == seccomp.program("reduced", pid=os.getpid()) != made
    with pytest.raises(ValueError, match="no place"):
        payload.for_itself(seccomp.program("full"))


def test_a_filter_that_the_kernel_refuses_is_an_error() -> None:
    assert "OSError" in under(f"{LOADED}(b'12345678')", "said = 1").stderr
