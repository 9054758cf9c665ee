#!/usr/bin/env python3
"""Every header compiles alone and has "#pragma once".

usage: check_headers.py [--build FOLDER] [--jobs N] [--self-test]

A header that a source of the build includes first has been compiled alone by the build itself. Each
other header becomes a translation unit of one line, compiled with -fsyntax-only and the flags that
compile_commands.json gives a source of the same folder (else of the nearest one above it).
What passed is remembered in FOLDER/header-check.json with a hash of all files it read, so that
only what changed is compiled again.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

from source_tree import ROOT, TemporaryTree, code_only, expect, read, sources


def commands(build, root):
    """({folder of sources: (compiler and flags, working folder)}, headers some source includes first)"""
    found, proven = {}, set()
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        entries = json.load(file)
    for entry in entries:
        source = os.path.normpath(os.path.join(entry["directory"], entry["file"]))
        words, kept, skip = shlex.split(entry["command"]), [], False
        for word in words:
            if skip:
                skip = False
            elif word in ("-o", "-MF", "-MQ", "-MT", "-c"):
                skip = word != "-c"
            elif word in ("-MD", "-MMD") or word == entry["file"]:
                continue
            else:
                kept.append(word)
        if kept and os.path.basename(kept[0]) == "ccache":
            kept = kept[1:]  # it does not cache -fsyntax-only
        folder = os.path.dirname(os.path.relpath(source, root))
        if os.path.exists(source):
            first = re.search(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^">]+)', code_only(read(root, source), True), re.M)
            if first:
                proven.add(first.group(1))
        # The one with the most include folders serves every header of the folder.
        best = found.get(folder)
        if best is None or len(kept) > len(best[0]):
            found[folder] = (kept, entry["directory"])
    return found, proven


def command_for(path, by_folder):
    folder = os.path.dirname(path)
    while folder:
        if folder in by_folder:
            return by_folder[folder]
        inside = [f for f in by_folder if f.startswith(folder + "/")]
        if inside:
            return max((by_folder[f] for f in inside), key=lambda command: len(command[0]))
        folder = os.path.dirname(folder)
    return max(by_folder.values(), key=lambda command: len(command[0]))


def digest(paths):
    whole = hashlib.sha256()
    for path in sorted(paths):
        try:
            with open(path, "rb") as file:
                whole.update(path.encode() + hashlib.sha256(file.read()).digest())
        except OSError:
            return None
    return whole.hexdigest()


def compile_header(root, path, command):
    """Returns (problem or None, files it read)."""
    flags, directory = command
    with tempfile.TemporaryDirectory() as folder:
        unit, depends = os.path.join(folder, "alone.cc"), os.path.join(folder, "alone.d")
        with open(unit, "w", encoding="utf-8") as file:
            file.write(f'#include "{path}"\n')
        done = subprocess.run([*flags, f"-I{root}", "-fsyntax-only", "-fdiagnostics-color=never", "-MMD", "-MF", depends, "-MT", "x",
                               unit], cwd=directory, capture_output=True, text=True)
        if done.returncode != 0:
            lines = done.stderr.splitlines()
            first = next((line for line in lines if "error:" in line), lines[0] if lines else "?")
            where = "".join(line.strip() for line in lines[:1] if "included from" in line)
            return (f"{path}:1: does not compile alone; include what it uses: {first}"
                    + (f" ({where})" if where and path not in first else "")), []
        with open(depends, encoding="utf-8") as file:
            read_files = file.read().replace("\\\n", " ").split(":", 1)[1].split()
    read_files = [os.path.normpath(os.path.join(directory, f)) for f in read_files]
    return None, [f for f in read_files if f != unit]


def check(root, build, jobs):
    headers = sources(root, suffixes=(".h",))
    by_folder, proven = commands(build, root)
    memory_path = os.path.join(build, "header-check.json")
    try:
        with open(memory_path, encoding="utf-8") as file:
            memory = json.load(file)
    except (OSError, ValueError):
        memory = {}
    problems, passed = [], {}

    def one(path):
        if path in proven:
            return path, None, None
        command = command_for(path, by_folder)
        flags = " ".join(command[0])
        old = memory.get(path)
        if old and old["flags"] == flags and digest(old["files"]) == old["digest"]:
            return path, None, old
        problem, files = compile_header(root, path, command)
        return path, problem, {"flags": flags, "files": files, "digest": digest(files)}

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for path, problem, entry in pool.map(one, headers):
            if "#pragma once" not in read(root, path):
                problems.append(f'{path}:1: has no "#pragma once"; put it before the first include')
            if problem:
                problems.append(problem)
            elif entry:
                passed[path] = entry
    with open(memory_path + ".new", "w", encoding="utf-8") as file:
        json.dump(passed, file)
    os.replace(memory_path + ".new", memory_path)
    return problems


def self_test():
    def problems_of(text):
        with TemporaryTree({"common/net/a.h": text, "common/net/a.cc": ""}) as root:
            entry = {"directory": root, "file": "common/net/a.cc",
                     "command": f"c++ -std=c++20 -Wall -Werror -I{root} -MD -MF a.d -o a.o -c common/net/a.cc"}
            with open(os.path.join(root, "compile_commands.json"), "w", encoding="utf-8") as file:
                json.dump([entry], file)
            first = check(root, root, 2)
            again = check(root, root, 2)  # what failed must fail again, from memory or not
            expect(again, *first)
            return first

    expect(problems_of("#pragma once\n#include <string>\nstd::string f();\n"))
    expect(problems_of("#pragma once\nstd::string f();\n"), "common/net/a.h:1: does not compile alone")
    expect(problems_of("#include <string>\nstd::string f();\n"), '#pragma once')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        self_test()
        print("self-test passed")
        return
    problems = check(ROOT, os.path.abspath(options.build), options.jobs)
    print("\n".join(problems + [f"check_headers.py: {len(problems)} problem(s)"]))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
