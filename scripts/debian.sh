# Sourced by other scripts: installs missing Debian packages, or names them.

apt_updated=""

say() { echo "setup: $*"; }
die() { echo "setup: $*" >&2; exit 1; }

# Installs the first of the given Debian packages that exists, or fails and names them.
install_debian_package() {
    local why="$1" package
    shift
    if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
        die "$why; install the Debian package $1 (or what your system calls it) and run this again"
    fi
    if [[ -z "$apt_updated" ]]; then
        apt-get update -qq
        apt_updated=yes
    fi
    for package in "$@"; do
        if apt-cache show "$package" >/dev/null 2>&1; then
            say "$why: installing $package"
            DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes apt-get install -y -qq --no-install-recommends \
                -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$package" >/dev/null
            return
        fi
    done
    die "$why, and apt-get knows none of: $*"
}
