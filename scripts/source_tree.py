"""What the checks share: the list of sources, code without comments, and how a check reports.

A check is a program: no argument: looks at the tree, prints "file:line: what is wrong; what to do"
for each violation, exit status 1 if there is one. --self-test: proves on small made-up trees that
it sees a violation and lets correct code pass.
"""
import os
import re
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDERS = ("common", "dataplane", "control", "tests")
SUFFIXES = (".h", ".cc", ".inc")


def sources(root=ROOT, suffixes=SUFFIXES, folders=FOLDERS):
    """Paths, relative to root, of all source files below the code folders; sorted."""
    found = []
    for folder in folders:
        for parent, names, files in os.walk(os.path.join(root, folder)):
            names[:] = [name for name in names if not name.startswith(".")]
            for name in files:
                if name.endswith(suffixes):
                    found.append(os.path.relpath(os.path.join(parent, name), root))
    return sorted(found)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


TOKEN = re.compile(
    r"""//[^\n]*|/\*.*?\*/|R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'""",
    re.S)


def code_only(text, keep_strings=False):
    """The text with comments (and strings) blanked; lines and columns stay where they were."""

    def blank(match):
        token = match.group(0)
        if keep_strings and not token.startswith(("//", "/*")):
            return token
        return re.sub(r"[^\n]", " ", token)

    return TOKEN.sub(blank, text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


class TemporaryTree:
    """A made-up source tree for a self-test: {path: text}."""

    def __init__(self, files):
        self.files = files

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="limpet-check-")
        for path, text in self.files.items():
            full = os.path.join(self.folder.name, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as file:
                file.write(text)
        return self.folder.name

    def __exit__(self, *_):
        self.folder.cleanup()


def expect(problems, *fragments):
    """Fails the self-test unless there is one problem per fragment, in order, containing it."""
    text = [str(problem) for problem in problems]
    if len(text) != len(fragments) or any(f not in t for f, t in zip(fragments, text)):
        print("self-test: expected", list(fragments), "got", text)
        sys.exit(1)


def main(check, self_test):
    """Runs check(root) -> list of strings, or the self-test."""
    if sys.argv[1:2] == ["--self-test"]:
        self_test()
        print("self-test passed")
        return
    problems = check(ROOT)
    for problem in problems:
        print(problem)
    name = os.path.basename(sys.argv[0])
    if problems:
        print(f"{name}: {len(problems)} problem(s)")
        sys.exit(1)
    print(f"{name}: nothing wrong")
