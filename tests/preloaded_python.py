"""A `python` that has imported TensorFlow already, for tests that start many programs.

    python -P tests/preloaded_python.py SOCKET

It waits at a Unix socket for command lines of `python`, and runs each in a fork of itself, which
starts at once: importing TensorFlow takes several seconds. start_server writes FOLDER/python, which
sends one there and takes the place of the interpreter.

With PARSE_ONLY in its environment, a command line is read to the end and goes no further: flags are
parsed, configs built, and rows looked up, but nothing is run.
"""

import argparse
import atexit
import contextlib
import functools
import json
import os
import pathlib
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Iterator

# It starts in isolated mode, without site-packages: for the standard library alone, this is fast.
CLIENT = """#!{python} -IS
import json, os, socket, sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(request)
    sys.exit(int.from_bytes(server.recv(1), "big"))
"""


@functools.cache
def preloaded_python() -> str:
    """The program that takes the place of `python` for all tests of this process."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    folder = stack.enter_context(tempfile.TemporaryDirectory())  # pytest's are too long a path.
    stack.enter_context(start_server(pathlib.Path(folder)))
    return f"{folder}/python"


@contextlib.contextmanager
def start_server(folder: pathlib.Path) -> Iterator[None]:
    """Writes FOLDER/python, the client of a server that runs until the end of the context."""
    address = folder / "socket"
    (folder / "python").write_text(CLIENT.format(python=sys.executable, address=str(address)))
    (folder / "python").chmod(0o755)
    # -P: what a program imports is of its own folder, not of this one.
    process = subprocess.Popen([sys.executable, "-P", __file__, address], start_new_session=True)
    try:
        while not address.exists():
            assert process.poll() is None, "It ended before its first command."
            time.sleep(0.1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def serve(address: str) -> None:
    """Runs the command lines that arrive at a socket, one after the other, for ever."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        while True:
            connection, _ = listener.accept()
            with connection:
                size, outputs, _, _ = socket.recv_fds(connection, 8, 3)
                request = connection.makefile("rb").read(int.from_bytes(size, "big"))
                child = os.fork()
                if not child:
                    listener.close()
                    run(*json.loads(request), outputs)
                for output in outputs:
                    os.close(output)
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                connection.sendall((code & 0xFF).to_bytes(1, "big"))


def run(arguments: list[str], folder: str, environment: dict[str, str], outputs: list[int]) -> None:
    """Becomes `python ARGUMENTS` in a folder, and ends."""
    for ours, theirs in zip(range(3), outputs, strict=True):
        os.dup2(theirs, ours)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    constants = sys.modules["tensorflow_datasets"].core.constants
    constants.DATA_DIR = constants.get_default_data_dir()  # TFDS read it when it was imported.
    code = 0
    try:
        execute(arguments)
    except SystemExit as end:
        code = end.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)


def execute(arguments: list[str]) -> None:
    """`python ARGUMENTS`, as far as the documentation uses it: a file, -m MODULE or -c CODE."""
    option, rest = arguments[0], arguments[1:]
    parse_only = "PARSE_ONLY" in os.environ
    if option in ("-m", "-c"):
        sys.path.insert(0, "")
        sys.argv = [option, *rest[1:]]
        if option == "-c":
            exec(compile(rest[0], "<python -c>", "exec"), {"__name__": "__main__"})
        elif parse_only and rest[0] == "pytest":
            parse_pytest(rest[1:])
        else:
            if parse_only:
                stop_after_parsing()
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(pathlib.Path(option).parent.absolute()))
        sys.argv = arguments
        if parse_only:
            stop_before_main()
        runpy.run_path(option, run_name="__main__")


def stop_after_parsing() -> None:
    """Of a module whose command line is argparse's. The rows of tables are looked up."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(*arguments, **options):
        given = parse(*arguments, **options)
        if hasattr(given, "rows"):
            from experiments import tables

            tables.find_rows(given.rows)
        sys.exit()

    argparse.ArgumentParser.parse_args = parse_and_stop


def stop_before_main() -> None:
    """Of a program whose flags are absl's: they are parsed, and a --config is built."""
    from experiments import command_line

    run_program = command_line.run_program
    command_line.run_program = lambda main, arguments: run_program(lambda _: None, arguments)


def parse_pytest(arguments: list[str]) -> None:
    """Fails unless the paths and the marker that pytest is to select exist."""
    parser = argparse.ArgumentParser(prog="pytest")
    parser.add_argument("paths", nargs="*")
    parser.add_argument("-m", dest="marker")
    given = parser.parse_args(arguments)
    options = tomllib.loads(pathlib.Path("pyproject.toml").read_text())["tool"]["pytest"]
    markers = [marker.partition(":")[0] for marker in options["ini_options"]["markers"]]
    for path in given.paths or options["ini_options"]["testpaths"]:
        if not pathlib.Path(path).exists():
            parser.error(f"{path} does not exist")
    if given.marker is not None and given.marker not in markers:
        parser.error(f"no marker {given.marker}; there are {', '.join(markers)}")


if __name__ == "__main__":
    # As the programs have it; see data/terminal.py.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import ml_collections.config_flags  # noqa: F401
    import tensorflow  # noqa: F401
    import tensorflow_datasets  # noqa: F401

    serve(sys.argv[1])
