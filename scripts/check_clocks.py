#!/usr/bin/env python3
"""Nobody reads a clock: time is an argument (common/timing/time.h).

ALLOWED names the few places where the process meets the machine's clocks.
"""
import re

from source_tree import TemporaryTree, code_only, expect, line_of, main, read, sources

ALLOWED = (
    "dataplane/port/",  # the TSC clock of the workers
    "control/engine/",  # the composition root: wall clock, timers of the control thread
    "tests/bench/",     # measures
    "tests/unit/port_test.cc",  # compares the TSC clock with the kernel's
)

READS = re.compile(
    r"(?:\b(?:system|steady|high_resolution|utc|tai|gps|file)_clock\s*::\s*now"
    r"|\b\w*[cC]lock\w*\s*::\s*now\s*\("
    r"|\b(?:clock_gettime|clock_getres|gettimeofday|timespec_get|ftime)\s*\("
    r"|(?<![\w.>:])(?:std\s*::\s*|::\s*)?(?:time|clock)\s*\(\s*(?:NULL|nullptr|0|&\s*\w+)?\s*\)(?!\s*(?:const|override|noexcept|\{|=))"
    r"|\brte_(?:rdtsc\w*|get_(?:timer|tsc|hpet)_cycles|get_tsc_hz|delay_\w+)\s*\("
    r"|\b__(?:builtin_ia32_)?rdtscp?\b|\b_mm_?rdtsc\w*|\bmicrosec_clock\b|\bsecond_clock\b)")


def check(root):
    problems = []
    for path in sources(root):
        if path.startswith(ALLOWED):
            continue
        text = code_only(read(root, path))
        for match in READS.finditer(text):
            # A declaration such as "Instant time() const" is no call.
            problems.append(f"{path}:{line_of(text, match.start())}: reads a clock "
                            f"({match.group(0).strip()}); take a timing::Clock or an Instant as an "
                            "argument")
    return problems


def self_test():
    def problems_of(text, path="dataplane/l4/a.cc"):
        with TemporaryTree({path: text}) as root:
            return check(root)

    for read_of_clock in ("auto t = std::chrono::steady_clock::now();", "using namespace std::chrono; x = system_clock::now();",
                          "clock_gettime(CLOCK_MONOTONIC, &ts);", "auto t = ::time(nullptr);",
                          "t = std::time(0);", "t = time(&x);", "gettimeofday(&tv, nullptr);",
                          "c = rte_rdtsc();", "c = rte_get_timer_cycles();", "c = rte_get_tsc_hz();",
                          "c = __rdtsc();", "t = Clock::now();"):
        expect(problems_of("\n" + read_of_clock), "dataplane/l4/a.cc:2: reads a clock")
    expect(problems_of("auto t = clock.now(); auto u = clock_->now(); x.time(0); timing::Instant t;"))
    expect(problems_of("// steady_clock::now()\nconst char* s = \"time(0)\";"))
    expect(problems_of("auto t = std::chrono::steady_clock::now();", "dataplane/port/tsc.cc"))
    expect(problems_of("auto t = std::chrono::steady_clock::now();", "tests/bench/l4.cc"))


if __name__ == "__main__":
    main(check, self_test)
