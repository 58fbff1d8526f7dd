#!/usr/bin/env bash
# Makes the environment that adpe_mm is tested in: the versions of requirements/lock.txt. Nothing is
# compiled. An environment that is complete is left as it is.
#
#   tools/setup_env.sh               make it in $ADPE_ENV
#   tools/setup_env.sh --cache-dir   print a folder for it outside the clone, named after its content
#
# Environment variables:
#   ADPE_ENV      folder of the environment (default: .venv in the clone)
#   PYTHON        a Python 3.10 to 3.13 (default: the first one found)
#   TORCH_INDEX   where torch and torchvision come from, for another CUDA (docs/install.md)
set -euo pipefail
unset PYTHONHOME PYTHONPATH # what they name would hide the environment's own packages
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
lock=$root/requirements/lock.txt
cache=${XDG_CACHE_HOME:-${HOME:-$root}/.cache}/adpe_mm
env=${ADPE_ENV:-$root/.venv}
recipe=2  # raise it when this script makes another environment from the same lock
need_gb=9 # 6 of them for the environment, the rest for what pip keeps aside meanwhile

say() { printf 'setup: %s\n' "$*"; }
die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# The path of the first Python that fits; of a virtual environment, the one it was made with. Names are
# tried, not trusted: version managers leave shims of Pythons that are not switched on.
find_python() {
    local name names=(python3.{11,12,13,10} python3 python) problem='found no'
    [[ -z ${PYTHON:-} ]] || names=("$PYTHON") problem="PYTHON=$PYTHON does not run as a"
    for name in "${names[@]}"; do
        "$name" -c 'import sys
if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    sys.exit(1)
print(getattr(sys, "_base_executable", sys.executable))' 2> /dev/null && return
    done
    die "$problem Python 3.10 to 3.13: install one, or name another one as PYTHON=/path/to/python."
}

# fingerprint PYTHON: all that decides what the environment holds, as a part of a file's name.
fingerprint() {
    echo "$({ cat "$lock" && echo "$recipe"; } | sha256sum | cut -c 1-16)-py$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
}

# The stamp is written last. Another Python or index that is asked for is another environment.
is_complete() {
    local stamp
    stamp=$(cat "$env/.adpe_complete" 2> /dev/null) &&
        [[ ${stamp%% *} == "$(fingerprint "${PYTHON:-$env/bin/python}" 2> /dev/null)" ]] &&
        [[ -z ${TORCH_INDEX:-} || $TORCH_INDEX == "${stamp#* }" ]]
}

# logged COMMAND...: runs it with its output in the log, and on failure says in one line what to do.
logged() {
    local before status=0 hint='see the log'
    before=$(wc -c 2> /dev/null < "$log") || before=0
    "$@" >> "$log" 2>&1 || status=$?
    ((status)) || return 0
    case $(tail -c "+$((before + 1))" "$log") in
        *'No space left on device'*) hint='the disk is full: free some space, or set ADPE_ENV and TMPDIR to a larger disk' ;;
        *'ensurepip is not available'*) hint="Python's venv module is missing: install it (Debian: python3-venv)" ;;
        *'connection broken by'* | *'name resolution'* | *'ReadTimeoutError'* | *'ProxyError'*)
            hint='the package index was not reached: check the network, or give a folder of wheels (docs/install.md)' ;;
        *'No matching distribution found'* | *'ResolutionImpossible'*)
            hint='a locked version was not found: check pip config list and the network, or give a folder of wheels (docs/install.md)' ;;
    esac
    die "failed (exit status $status): $hint. Log: $log"
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
    local python=$1 pip=$env/bin/pip free
    say "$("$python" --version) ($python), into $env"
    rm -rf "$env"
    free=$(df -Pk "$(dirname "$env")" | awk 'NR == 2 { print int($4 / 1048576) }')
    ((free >= need_gb)) || die "$(dirname "$env") has $free GB free and $need_gb GB are needed: free some, or set ADPE_ENV to a folder on a larger disk."
    mkdir "$env"
    touch "$env/.adpe_env"
    : > "$log"
    logged "$python" -m venv "$env"
    say 'the locked packages, but torch'
    grep -v -e '^torch' -e '^onedl-mmcv=' "$lock" > "$env/lock.txt"
    logged "$pip" install -q --no-deps -r "$env/lock.txt"
    # From source, as pure Python. pip's cache may hold one that was compiled for another torch.
    logged "$pip" install -q --no-deps --no-cache-dir "$(grep '^onedl-mmcv=' "$lock")"
    say 'torch and torchvision, with the libraries of their CUDA'
    logged "$pip" install -q ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -c "$lock" torch torchvision
    install_package
    say 'check'
    "$env/bin/python" "$root/tools/check_env.py" || die 'the environment is not complete: do what the lines above say, then run this again.'
    echo "$(fingerprint "$env/bin/python") ${TORCH_INDEX:-}" > "$env/.adpe_complete"
    say "complete: $env ($(du -sh "$env" | cut -f1), $SECONDS s)"
}

case ${1:-} in
    --cache-dir)
        python=$(find_python)
        echo "$cache/env-$(fingerprint "$python")"
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
python=$(find_python) # not in the call: an error in there would be lost
make_environment "$python"
