#!/usr/bin/env python3
"""Every test can fail: it asserts something, or calls a helper of the tests that does.

C++: what counts is a macro of GoogleTest, or a function below tests/ whose body has one, over any
number of calls; helpers are found by their names. Python: an assert method, a "raise", or a function
of the tests that has one. What is always so is no assertion: EXPECT_TRUE(true), n >= 0u. Whether the
right thing is asserted, this does not see: break the code and look.
"""
import ast
import os
import re

from source_tree import TemporaryTree, code_only, expect, line_of, main, read, sources

TEST = re.compile(r"^\s*(?:TYPED_)?TEST(?:_F|_P)?\s*\(\s*(\w+)\s*,\s*(\w+)\s*\)\s*(?=\{)", re.M)
# A definition: name(…) const noexcept override -> T : member(…), … {
FUNCTION = re.compile(r"\b(~?\w+)\s*\((?:[^(){};]|\([^(){};]*\))*\)\s*(?:const|noexcept|override|final|\s)*"
                      r"(?:->\s*[\w:<>&*\s]+|:[^;{}]*)?(?=\{)")
LAMBDA = re.compile(r"\b(\w+)\s*=\s*\[[^\]]*\]\s*(?:\((?:[^(){};]|\([^(){};]*\))*\))?\s*(?:mutable|->\s*[\w:<>&*\s]+|\s)*(?=\{)")
ASSERTION = re.compile(r"\b(?:EXPECT|ASSERT)_\w+\s*\(|\b(?:FAIL|ADD_FAILURE)(?:_AT)?\s*\(|\bEXPECT_CALL\b")
ALWAYS = re.compile(r"\b(?:EXPECT|ASSERT)_(?:TRUE\s*\(\s*(?:true|1)\s*\)|FALSE\s*\(\s*(?:false|0)\s*\)"
                    r"|GE\s*\([^;]*,\s*0(?:u|U|ul|UL|ull|ULL)\s*\)"
                    r"|GE\s*\([^;,]*\b(?:size|count|length)\s*\(\s*\)\s*,\s*0\s*\)|(?:EQ|GE|LE)\s*\(\s*([\w.]+)\s*,\s*\1\s*\))")
CALL = re.compile(r"\b(\w+)\s*(?:<[^;(){}]*>\s*)?\(")
KEYWORDS = {"if", "for", "while", "switch", "return", "sizeof", "catch"}


def body_at(text, start):
    """The text of the braces that begin at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start:i + 1]
    return text[start:]


def cpp_problems(root):
    texts = {path: code_only(read(root, path)) for path in sources(root, folders=("tests",))}
    calls, asserting, tests, problems = {}, set(), [], []
    for path, text in texts.items():
        for match in TEST.finditer(text):
            place = f"{path}:{line_of(text, match.start(1))}"
            tests.append((place, f"{match.group(1)}.{match.group(2)}", body_at(text, match.end())))
        for match in (*FUNCTION.finditer(text), *LAMBDA.finditer(text)):
            name = match.group(1)
            if name in KEYWORDS or name.isupper():
                continue
            body = body_at(text, match.end())
            if ASSERTION.search(body):
                asserting.add(name)
            calls.setdefault(name, set()).update(CALL.findall(body))
        for match in ALWAYS.finditer(text):
            problems.append(f"{path}:{line_of(text, match.start())}: {match.group(0)} is always so")
    spread(calls, asserting)
    for place, name, body in tests:
        if not ASSERTION.search(body) and not asserting & set(CALL.findall(body)):
            problems.append(f"{place}: {name} asserts nothing; say what has to hold")
    return problems


def spread(calls, asserting):
    """Adds to asserting who calls one of it, over any number of calls."""
    grown = True
    while grown:
        more = {name for name, called in calls.items() if name not in asserting and called & asserting}
        asserting |= more
        grown = bool(more)


def python_name(call):
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def is_assertion(node):
    if isinstance(node, (ast.Assert, ast.Raise)):
        return True
    if not isinstance(node, ast.Call):
        return False
    name = python_name(node)
    if re.match(r"assert[A-Z]|fail$", name):
        return not (name in ("assertTrue", "assertFalse") and isinstance(node.args[0], ast.Constant))
    return False


def swallows(handler):
    """An "except" that takes everything and does nothing about it."""
    everything = handler.type is None or getattr(handler.type, "id", "") in ("Exception", "BaseException",
                                                                             "AssertionError")
    return everything and all(isinstance(line, ast.Pass) for line in handler.body)


def python_problems(root):
    calls, asserting, tests, problems = {}, set(), [], []
    for path in sources(root, suffixes=(".py",), folders=("tests",)):
        for node in ast.walk(ast.parse(read(root, path))):
            if isinstance(node, ast.ExceptHandler) and swallows(node):
                problems.append(f"{path}:{node.lineno}: whatever happens is passed over; name the errors")
            if not isinstance(node, ast.FunctionDef):
                continue
            inner = list(ast.walk(node))
            called = {python_name(n) for n in inner if isinstance(n, ast.Call)}
            direct = any(is_assertion(n) for n in inner)
            if node.name.startswith("test_") and os.path.basename(path).endswith("_test.py"):
                tests.append((f"{path}:{node.lineno}", node.name, direct, called))
                continue
            if direct:
                asserting.add(node.name)
            calls.setdefault(node.name, set()).update(called)
    spread(calls, asserting)
    for place, name, direct, called in tests:
        if not direct and not asserting & called:
            problems.append(f"{place}: {name} asserts nothing; say what has to hold")
    return problems


def check(root):
    return sorted(cpp_problems(root) + python_problems(root))


def self_test():
    def problems_of(text, path="tests/unit/a_test.cc", **more):
        with TemporaryTree({path: text, **more}) as root:
            return check(root)

    expect(problems_of("TEST(A, B) {\n  EXPECT_EQ(f(), 1);\n}"))
    expect(problems_of("\nTEST_F(A, B) {\n  f();  // EXPECT_EQ(1, 2)\n}"), "tests/unit/a_test.cc:2: A.B asserts nothing")
    expect(problems_of('TEST(A, B) { const char* s = "EXPECT_EQ("; }'), "A.B asserts nothing")
    expect(problems_of("void g(int x) { ASSERT_TRUE(x); }\nvoid f() { g(1); }\nTEST(A, B) { f(); }"))
    expect(problems_of("void g(int x) { h(x); }\nTEST(A, B) { g(1); }"), "A.B asserts nothing")
    expect(problems_of("TEST(A, B) { lab.settle(); }",
                       **{"tests/unit/lab.h": "struct Lab { bool settle() const { EXPECT_TRUE(x); return x; } };"}))
    expect(problems_of("template <class T>\nvoid f() { EXPECT_EQ(T(), 1); }\nTEST(A, B) { f<a::B>(); }"))
    expect(problems_of("TEST(A, B) { const auto f = [&](int i) { EXPECT_EQ(i, 1); }; f(2); }"))
    for always in ("EXPECT_TRUE(true)", "ASSERT_FALSE(false)", "EXPECT_GE(n, 0u)", "EXPECT_GE(v.size(), 0)", "EXPECT_EQ(a, a)"):
        expect(problems_of(f"TEST(A, B) {{ {always}; }}"), "is always so")
    expect(problems_of("TEST(A, B) { EXPECT_GE(n, 0); EXPECT_GT(v.size(), 0u); EXPECT_EQ(a, a2); }"))

    def python(*lines, path="tests/e2e/a_test.py", **more):
        return problems_of("class A:\n" + "\n".join(lines), path, **more)

    expect(python("  def test_b(self):", "    self.assertEqual(f(), 1)"))
    expect(python("  def test_b(self):", "    f()"), "tests/e2e/a_test.py:2: test_b asserts nothing")
    expect(python("  def test_b(self):", "    self.assertTrue(True)"), "asserts nothing")
    expect(python("  def test_b(self):", "    self.same()", "  def same(self):", "    self.assertEqual(f(), 1)"))
    expect(python("  def test_b(self):", "    wait_until(f)",
                  **{"tests/e2e/lab.py": "def wait_until(f):\n  raise TimeoutError(f)"}))
    expect(python("  def test_b(self):", "    try:", "      self.assertEqual(f(), 1)", "    except Exception:", "      pass"),
           "a_test.py:5: whatever happens is passed over")


if __name__ == "__main__":
    main(check, self_test)
