#!/usr/bin/env bash
# Makes the environment that adpe_mm is tested in. One that is complete is left as it is.
#
#   tools/setup_env.sh               make it in $ADPE_ENV
#   tools/setup_env.sh --cache-dir   print a folder for it outside the clone, named after its content
#
# Environment variables:
#   ADPE_ENV        folder of the environment (default: .venv in the clone)
#   PYTHON          a Python 3.10 to 3.12 (default: the first one found)
#   PIP_FIND_LINKS  where pip looks for wheels, onedl-mmcv's among them
#   MAX_JOBS        how many files of mmcv are compiled at once (default: by cores and memory)
#   FORCE_CUDA=1    build mmcv's CUDA ops on a machine without a GPU (set TORCH_CUDA_ARCH_LIST too)
set -euo pipefail
unset PYTHONHOME PYTHONPATH # what they name would hide the environment's own packages
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
lock=$root/requirements/lock.txt
cache=${XDG_CACHE_HOME:-${HOME:-$root}/.cache}/adpe_mm
env=${ADPE_ENV:-$root/.venv}
recipe=1  # raise it when this script makes another environment from the same lock
need_gb=9 # 6 of them for the environment, the rest for what pip keeps aside meanwhile
steps=6 step=0

say() { printf 'setup: %s\n' "$*"; }
begin() { step=$((step + 1)); say "[$step/$steps] $*"; }
die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}
locked() { sed -n "s/^$1==\([^ ;]*\).*/\1/p" "$lock"; }

minor_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

# base_python NAME: the path of a Python that fits; of a virtual environment, the one it was made
# with. NAME is tried, not trusted: version managers leave shims of Pythons that are not switched on.
base_python() {
    "$1" -c 'import sys
if not (3, 10) <= sys.version_info[:2] <= (3, 12):
    sys.exit(1)
print(getattr(sys, "_base_executable", sys.executable))' 2> /dev/null
}

find_python() {
    local name
    if [[ -n ${PYTHON:-} ]]; then
        base_python "$PYTHON" || die "PYTHON=$PYTHON does not run as a Python 3.10 to 3.12: name another one."
        return
    fi
    for name in python3.11 python3.12 python3.10 python3 python; do
        base_python "$name" && return
    done
    die 'found no Python 3.10 to 3.12: install one, or name it as PYTHON=/path/to/python.'
}

# fingerprint PYTHON: a hash of all that decides what the environment holds.
fingerprint() {
    "$1" - "$lock" "$recipe" << 'EOF'
import hashlib, pathlib, sys
lock, recipe = sys.argv[1:]
parts = [pathlib.Path(lock).read_text(), recipe, '%d.%d' % sys.version_info[:2]]
print(hashlib.sha256('\n'.join(parts).encode()).hexdigest()[:16])
EOF
}

# stamp_of ENV: what the stamp of a complete environment says.
stamp_of() {
    local torch
    torch=$("$1/bin/python" -c 'from importlib.metadata import version; print(version("torch"))') || return
    echo "$(fingerprint "$1/bin/python") torch-$torch"
}

is_complete() {
    [[ -f $env/.adpe_complete && -x $env/bin/python ]] || return
    [[ $(cat "$env/.adpe_complete") == "$(stamp_of "$env" 2> /dev/null)" ]] || return
    # Another Python asked for by name is another environment.
    [[ -z ${PYTHON:-} || $(minor_of "$PYTHON" 2> /dev/null) == "$(minor_of "$env/bin/python")" ]]
}

# logged COMMAND...: runs it with its output in the log, and on failure says what to do.
logged() {
    local before
    before=$(wc -c < "$log")
    "$@" >> "$log" 2>&1 || explain "$?" "$(tail -c "+$((before + 1))" "$log")"
}

# explain STATUS OUTPUT: ends with one line on why a command failed.
explain() {
    local hint='see the log'
    case $2 in
        *'No space left on device'*) hint='the disk is full: free some space, or set ADPE_ENV and TMPDIR to a larger disk' ;;
        *'Python.h: No such file'*) hint="Python's headers are missing: install them (Debian: python3-dev)" ;;
        *'ensurepip is not available'*) hint="Python's venv module is missing: install it (Debian: python3-venv)" ;;
        *'connection broken by'* | *'name resolution'* | *'ReadTimeoutError'* | *'ProxyError'*)
            hint='the package index was not reached: check the network, or give a folder of wheels (docs/install.md)' ;;
        *'No matching distribution found'* | *'ResolutionImpossible'*)
            hint='a locked version was not found: check pip config list and the network, or give a folder of wheels (docs/install.md)' ;;
        *'Killed'* | *'out of memory'* | *'cannot allocate memory'*) hint='memory ran out: run again with MAX_JOBS=1' ;;
        *'CUDA version'*'mismatches'*) hint="nvcc is of another CUDA than torch: put a matching one in CUDA_HOME" ;;
    esac
    die "failed (exit status $1): $hint. Log: $log"
}

check_disk() {
    local folder=$1 free
    while [[ ! -d $folder ]]; do folder=$(dirname "$folder"); done
    free=$(df -Pk "$folder" | awk 'NR == 2 { print int($4 / 1048576) }')
    ((free >= need_gb)) || die "$folder has $free GB free and $need_gb GB are needed: free some, or set ADPE_ENV to a folder on a larger disk."
}

check_compiler() {
    local language compiler
    for language in c c++; do
        compiler=${CC:-gcc}
        [[ $language == c ]] || compiler=${CXX:-g++}
        # shellcheck disable=SC2086  # it may carry options
        printf '#include <stddef.h>\nint main(void) { return 0; }\n' |
            $compiler -x "$language" - -o /dev/null 2> /dev/null ||
            die "mmcv has to be built and $compiler does not compile: install gcc and g++ 9 or newer (Debian: build-essential), or give a wheel of onedl-mmcv in PIP_FIND_LINKS."
    done
    "$env/bin/python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
        die "mmcv has to be built and Python.h is missing: install Python's headers (Debian: python3-dev), or give a wheel of onedl-mmcv in PIP_FIND_LINKS."
}

# fetch_mmcv FOLDER: copies a ready wheel of mmcv to FOLDER, if pip is pointed to one.
fetch_mmcv() {
    "$env/bin/pip" download -q --no-cache-dir --no-deps --no-index --only-binary :all: \
        -d "$1" "onedl-mmcv==$(locked onedl-mmcv)" &> /dev/null
}

# built_mmcv OPS: prints the path of the wheel that was built here before with these ops, if any.
built_mmcv() {
    compgen -G "$cache/wheels/torch-$(locked torch)-cp${minor/./}-$1/onedl_mmcv-$(locked onedl-mmcv)-*.whl"
}

# try_mmcv WHEEL: installs it; false if it was not built for this torch and these devices.
# Its name does not tell: only an import does.
try_mmcv() {
    logged "$env/bin/pip" install -q --no-deps --no-index --force-reinstall "$1"
    "$env/bin/python" - "$ops" >> "$log" 2>&1 << 'EOF'
import sys
import torch
from mmcv.ops import get_compiling_cuda_version
sys.exit(sys.argv[1] == 'cuda' and get_compiling_cuda_version() == 'not available')
EOF
}

# build_mmcv: makes a wheel and keeps it, in a folder named after what it was built for. pip's own
# cache is not used: it may hold a wheel of the same name for another torch.
build_mmcv() {
    local wheels new
    wheels=$cache/wheels/torch-$(locked torch)-cp${minor/./}-$ops
    new=$wheels.new.$$
    local variables=(MAX_JOBS="$(jobs_at_once)" FORCE_CUDA=0 CUDA_VISIBLE_DEVICES=)
    if [[ $ops == cuda ]]; then
        variables=(MAX_JOBS="$(jobs_at_once)" FORCE_CUDA=1 CUDA_HOME="$CUDA_HOME")
    fi
    check_compiler
    logged env "${variables[@]}" "$env/bin/pip" wheel --no-cache-dir --no-build-isolation --no-deps \
        --no-binary onedl-mmcv -w "$new" "onedl-mmcv==$(locked onedl-mmcv)"
    mkdir -p "$wheels"
    mv -f "$new"/*.whl "$wheels/"
    rmdir "$new"
}

# A compiler takes up to 2 GB here.
jobs_at_once() {
    local cores memory
    cores=$(nproc 2> /dev/null || echo 2)
    memory=$(awk '/MemAvailable/ { print int($2 / 2097152) }' /proc/meminfo 2> /dev/null || echo 2)
    ((memory >= 1)) || memory=1
    echo "${MAX_JOBS:-$((cores < memory ? cores : memory))}"
}

# find_toolkit: the folder of a CUDA toolkit that has compiler and headers. torch alone would take
# the parent of whatever nvcc is on PATH, which may be a wrapper.
find_toolkit() {
    local folder cuda
    cuda=$("$env/bin/python" -c 'import torch; print(torch.version.cuda)' 2>> "$log")
    for folder in "${CUDA_HOME:-}" "/usr/local/cuda-$cuda" /usr/local/cuda "$(dirname "$(dirname "$(command -v nvcc)")")"; do
        if [[ -x $folder/bin/nvcc && -e $folder/include/cuda_runtime.h ]]; then
            echo "$folder"
            return
        fi
    done
    return 1
}

# choose_ops: mmcv gets CUDA ops where torch sees a GPU and there is a compiler for it.
choose_ops() {
    ops=cpu
    if [[ ${FORCE_CUDA:-0} == 1 ]]; then
        ops=cuda
        CUDA_HOME=$(find_toolkit) || die 'FORCE_CUDA=1 needs a CUDA toolkit (nvcc and headers): install one or name it as CUDA_HOME.'
    elif "$env/bin/python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>> "$log"; then
        if CUDA_HOME=$(find_toolkit); then
            ops=cuda
        else
            say 'found a GPU but no CUDA toolkit: mmcv gets CPU ops, which do for all but detection on the GPU (docs/install.md).'
        fi
    fi
}

install_mmcv() {
    choose_ops
    begin "mmcv $(locked onedl-mmcv) with $ops ops"
    local fetched=$env/mmcv-wheel wheel
    if wheel=$(built_mmcv "$ops") && try_mmcv "$wheel"; then
        say "      from $wheel"
    elif fetch_mmcv "$fetched" && try_mmcv "$fetched"/*.whl; then
        say '      from a wheel that pip is pointed to'
    else
        say "      building it, which takes about 15 minutes on two cores; see $log"
        build_mmcv
        try_mmcv "$(built_mmcv "$ops")" || die "the mmcv that was built does not import. Log: $log"
    fi
    rm -rf "$fetched"
}

# The editable install names one clone. It is renewed when another clone uses the environment.
install_package() {
    local installed
    installed=$("$env/bin/python" -c 'from importlib.metadata import distribution as d; print(d("adpe_mm").read_text("direct_url.json"))' 2> /dev/null) || installed=
    if [[ $installed != *"\"file://$root\""* || ! -e $root/adpe_mm/.mim ]]; then
        logged "$env/bin/pip" install -q --no-deps --no-build-isolation --no-index -e "$root"
    fi
}

make_environment() {
    local python=$1 pip=$env/bin/pip
    minor=$(minor_of "$python")
    say "Python $minor ($python), into $env"

    begin 'virtual environment'
    rm -rf "$env"
    check_disk "$env"
    mkdir -p "$env"
    touch "$env/.adpe_env"
    : > "$log"
    logged "$python" -m venv "$env"
    logged "$pip" install -q -c "$lock" setuptools wheel packaging ninja psutil
    # Better said now than after gigabytes of downloads.
    built_mmcv '*' > /dev/null || fetch_mmcv "$env/mmcv-wheel" || check_compiler

    begin "torch $(locked torch) and torchvision $(locked torchvision)"
    logged "$pip" install -q -c "$lock" torch torchvision

    begin 'the other locked packages'
    grep -v '^onedl-mmcv==' "$lock" > "$env/lock.txt"
    logged "$pip" install -q --no-deps --no-build-isolation -r "$env/lock.txt"

    install_mmcv

    begin 'adpe_mm itself'
    install_package

    begin 'check'
    "$env/bin/python" "$root/tools/check_env.py" || die 'the environment is not complete: do what the lines above say, then run this again.'
    stamp_of "$env" > "$env/.adpe_complete"
    say "complete: $env ($(du -sh "$env" | cut -f1), $SECONDS s)"
}

case ${1:-} in
    --cache-dir)
        python=$(find_python)
        echo "$cache/env-$(fingerprint "$python")-torch$(locked torch)-py$(minor_of "$python")"
        exit
        ;;
    '') ;;
    *) die "unknown argument $1: it takes none, or --cache-dir." ;;
esac

mkdir -p "$(dirname "$env")" 2> /dev/null || die "cannot make $env: set ADPE_ENV to a folder you may write to."
env=$(cd "$(dirname "$env")" && pwd)/$(basename "$env")
log=$env/setup.log
if command -v flock > /dev/null; then # two calls at once: the second one waits
    exec 9> "$env.lock"
    flock 9
fi

if is_complete; then
    install_package
    say "ready: $env"
    exit
fi
if [[ -e $env && ! -e $env/.adpe_env ]] && [[ -n $(ls -A "$env") ]]; then
    die "$env is not an environment that this script made and is left alone: remove it, or set ADPE_ENV to another folder."
fi
python=$(find_python)
make_environment "$python"
