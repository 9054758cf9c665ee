#!/usr/bin/env python3
"""No mutable state at namespace scope, in a function's static, or in thread_local.

usage: check_globals.py [--build FOLDER] [--self-test]

The objects of the build say what ended up in writable memory (.data, .bss, .tdata, .tbss): that
finds what a search of the text misses. A constant whose value is made at start (a std::string, say)
is there too; it passes when its declaration says const or constexpr. The text is searched for
thread_local, which an unused inline or template would hide from the objects.
"""
import argparse
import os
import re
import subprocess
import sys

from source_tree import ROOT, TemporaryTree, code_only, expect, line_of, read, sources

# (path prefix, name, why)
ALLOWED = [
    ("control/api/telemetry.cc", r".*board\(\)::instance", "DPDK's telemetry callbacks carry no argument"),
    ("tests/support/", r"heap_pool_ops|mp_hdlr_init\w*", "DPDK registers mempool drivers in a global"),
    ("tests/support/", r".*counter\(\)::count", "operator new has no argument that it could count in"),
    ("tests/", r".*(test_info_|_Test::\w+|gtest_\w+|Benchmark\w*)", "made by the test framework's macros"),
    ("tests/unit/", r".*(TlsTest::folder_|WireEnvironment::ready)", "fixtures of a whole suite are static members"),
    ("tests/fuzz/", r".*", "libFuzzer has no place for state but globals"),
]

WRITABLE = re.compile(r"^\.(data|bss|tdata|tbss)(\.(?!rel\.ro)|$)")
MADE_BY_COMPILER = re.compile(
    r"^(guard variable for|vtable for|typeinfo|VTT for|construction vtable|reference temporary|"
    r"__odr_asan|_GLOBAL__|std::|boost::|testing::|nlohmann::|fmt::|rc::|benchmark::|__|DW\.ref|\.L)")
SYMBOL = re.compile(r"^[0-9a-f]{16} (?P<flags>.{7}) (?P<section>\S+)\t(?P<size>[0-9a-f]{16}) +(?:\.hidden )?(?P<name>.*)$")


def objects(build):
    """(object path, source path relative to the root) of the project's own sources."""
    found = []
    for parent, _, files in os.walk(build):
        if not parent.endswith(".p"):
            continue
        relative = os.path.relpath(parent, build)
        for name in files:
            if name.endswith(".cc.o"):
                # Meson flattens the path below the folder of the target: "sub_file.cc.o".
                found.append((os.path.join(parent, name),
                              os.path.join(os.path.dirname(relative), name[:-2])))
    return sorted(found)


def leaf_name(symbol):
    """"count" for "limpet::l4::(anonymous namespace)::f(int)::count[abi:cxx11]"."""
    text = re.sub(r"\[abi:\w+\]", "", symbol)
    while True:
        shorter = re.sub(r"<[^<>]*>|\([^()]*\)", "", text)
        if shorter == text:
            break
        text = shorter
    return text.split("::")[-1].strip()


def declaration(root, source, name):
    """(path, line, is it constant) of the declaration of `name` in the source or a header beside it."""
    places = [source] if os.path.exists(os.path.join(root, source)) else []
    places += [p for p in sources(root, suffixes=(".h",)) if p not in places]
    for path in places:
        text = code_only(read(root, path))
        for match in re.finditer(r"(?:(?<=[;{}])|^)[^\n;{}()]*?(?:[\w>&*\]]\s+|[*&>])" + re.escape(name)
                                 + r"\s*(?=[;={\[(])",
                                 text, re.M):
            line = match.group(0)
            if re.match(r"\s*(return|using|class|struct|enum|namespace|case)\b", line):
                continue
            # The type may have begun on the lines above.
            begin = max(text.rfind(c, 0, match.start()) for c in ";{}#")
            constant = re.search(r"\bconst(expr)?\b", text[begin + 1:match.end()]) is not None
            return path, line_of(text, match.end() - 1), constant
    return source, 1, False


def writable_symbols(path):
    done = subprocess.run(["objdump", "-t", "-C", path], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        match = SYMBOL.match(line)
        # A thread's variables carry no object flag; section symbols have no size.
        if match and WRITABLE.match(match["section"]) and int(match["size"], 16) > 0:
            yield match["section"], match["name"]


def check_objects(root, build):
    problems = {}
    for path, source in objects(build):
        for section, symbol in writable_symbols(path):
            if MADE_BY_COMPILER.match(symbol):
                continue
            name = leaf_name(symbol)
            if any(source.startswith(prefix) and re.fullmatch(pattern, symbol) or
                   source.startswith(prefix) and re.fullmatch(pattern, name)
                   for prefix, pattern, _ in ALLOWED):
                continue
            where, line, constant = declaration(root, source, name)
            if constant and not section.startswith((".tdata", ".tbss")):
                continue
            problems[(where, line, symbol)] = (
                f"{where}:{line}: {symbol} is mutable ({section}); make it const, or a member of the "
                "struct that owns it and pass that")
    return [problems[key] for key in sorted(problems)]


def check_text(root):
    problems = []
    for path in sources(root):
        text = code_only(read(root, path))
        for match in re.finditer(r"\bthread_local\b|\b__thread\b", text):
            problems.append(f"{path}:{line_of(text, match.start())}: {match.group(0)}; per-core state "
                            "is one struct passed by reference")
    return problems


def self_test():
    def problems_of(text):
        with TemporaryTree({"common/net/a.cc": text}) as root:
            folder = os.path.join(root, "build", "common", "net", "lib.a.p")
            os.makedirs(folder)
            subprocess.run(["c++", "-std=c++20", "-O1", "-c", os.path.join(root, "common/net/a.cc"), "-o",
                            os.path.join(folder, "a.cc.o")], check=True)
            return check_objects(root, os.path.join(root, "build")) + check_text(root)

    head = "#include <string>\nnamespace limpet::net {\n"
    use = "\nint use(int i) { return i; }\n}\n"
    expect(problems_of(head + "int count = 3;" + use), "common/net/a.cc:3: limpet::net::count is mutable (.data)")
    expect(problems_of(head + "int count;" + use), "limpet::net::count is mutable (.bss)")
    expect(problems_of(head + "namespace { int hidden; }\nint next() { return ++hidden; }" + use),
           "(anonymous namespace)::hidden is mutable")
    expect(problems_of(head + "int next() {\n  static int calls = 0;\n  return ++calls;\n}" + use),
           "common/net/a.cc:4: limpet::net::next()::calls is mutable")
    expect(problems_of(head + "thread_local int mine = 1;" + use), "mine is mutable", "thread_local")
    expect(problems_of(head + "extern const std::string kName;\nconst std::string kName = \"a\";" + use))
    expect(problems_of(head + "constexpr int kTable[] = {1, 2};\n"
                       "const char* const kNames[] = {\"a\"};\nconst char* name() { return kNames[0]; }" + use))
    expect(problems_of(head + "const std::string& name() { static const std::string kName = \"a\"; "
                       "return kName; }" + use))
    expect(problems_of(head + "struct A { virtual ~A() {} };\nA* make() { return new A; }" + use))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        self_test()
        print("self-test passed")
        return
    if not objects(options.build):
        print(f"check_globals.py: no objects in {options.build}; build first")
        sys.exit(1)
    problems = check_objects(ROOT, options.build) + check_text(ROOT)
    print("\n".join(problems + [f"check_globals.py: {len(problems)} problem(s)"]))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
