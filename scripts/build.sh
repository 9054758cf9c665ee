# Sourced by the other scripts: where the builds are and how they are made. build_X configures its
# folder if need be and builds the targets it is given (default: everything); it is quick when
# nothing has changed. The release build is in build/, others beside it. Meson takes ccache on its
# own when it is installed.

# nginx, ethtool, nft and sysctl are in sbin, which a user's PATH (so also that of "su" without "-")
# lacks on Debian.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

limpet_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# configure FOLDER [meson options]: once; ninja reconfigures when a meson.build changes.
configure() {
  local folder=$limpet_root/$1
  shift
  [[ -f $folder/build.ninja ]] && return
  # A folder whose first configuration failed has to be wiped before the next try.
  rm -rf "${folder:?}/meson-private" "${folder:?}/meson-info"
  (cd "$limpet_root" && meson setup "$folder" "$@")
}

configure_release() { configure build; }

configure_clang() {
  local folder=$1
  shift
  # Instrumented code is slow to compile and to link: a library or program is one unit, where
  # headers and what templates unfold to are compiled once, and linked by lld.
  CC=clang-14 CXX=clang++-14 CXX_LD=lld configure "$folder" --buildtype=plain -Doptimization=1 \
    -Dcpp_args=-gline-tables-only -Db_lundef=false -Dunity=on -Dunity_size=100 "$@"
}

configure_asan() { configure_clang build-asan -Db_sanitize=address,undefined; }
configure_tsan() { configure_clang build-tsan -Db_sanitize=thread; }

build_release() { configure_release && ninja -C "$limpet_root/build" "$@"; }
build_asan() { configure_asan && ninja -C "$limpet_root/build-asan" "$@"; }
build_tsan() { configure_tsan && ninja -C "$limpet_root/build-tsan" "$@"; }

# suite_targets FOLDER SUITE...: what has to be built to run these suites, for ninja.
suite_targets() {
  local folder=$limpet_root/$1
  shift
  python3 - "$folder" "$@" <<'PYTHON'
import json, os, sys
folder, suites = sys.argv[1], set(sys.argv[2:])
def info(name):
    with open(os.path.join(folder, "meson-info", f"intro-{name}.json")) as file:
        return json.load(file)
ids = {target for test in info("tests") for target in test["depends"]
       if suites & {suite.split(":")[-1] for suite in test["suite"]}}
for target in info("targets"):
    if target["id"] in ids:
        print(os.path.relpath(target["filename"][0], folder))
PYTHON
}

# What the sanitizers are told when a test runs.
export ASAN_OPTIONS=${ASAN_OPTIONS:-abort_on_error=1:detect_stack_use_after_return=1}
export LSAN_OPTIONS=${LSAN_OPTIONS:-suppressions=$limpet_root/tests/e2e/leaks.supp}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}
