# What fetch-kernels and fetch-sources share: apt with a configuration, lists and cache of its own for each suite, in
# $dir/.fetch/SUITE/apt. Nothing of the system is changed, and root is not needed. Signatures are checked with the
# machine's Debian keys. Sourced by bash; $me is the name that messages begin with, $dir the folder of all.

say() { printf '%s: %s\n' "$me" "$*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

# help SCRIPT: the comment at its beginning.
help() { sed -n '2,/^[^#]/{/^[^#]/d;s/^# \{0,1\}//;p}' "$1"; }

# need TOOL...: each is installed.
need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || die "$tool is not installed (Debian packages apt, dpkg, tar, xz-utils, zstd)"
  done
}

# find_mirror: sets $mirror to that of the machine's own apt sources, unless it is set. The debian-security archive is
# looked for beside it.
find_mirror() {
  [[ -n $mirror ]] || mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -m1 -E '/debian/?$') ||
    die "the machine's apt sources name no Debian mirror (a URL that ends in /debian): give --mirror URL"
  mirror=${mirror%/}
}

# in_suite SUITE COMMAND...: apt-get or apt-cache that knows this suite only. Without being asked for, experimental's
# packages come after sid's.
in_suite() {
  local state=$dir/.fetch/$1/apt release=(); [[ $1 != experimental ]] || release=(-o APT::Default-Release="$1"); shift
  "$1" -o Dir::Etc::SourceList="$state/sources" -o Dir::Etc::SourceParts=- -o Dir::Etc::Preferences=- \
    -o Dir::Etc::PreferencesParts=- -o Dir::State="$state" -o Dir::State::lists="$state/lists" \
    -o Dir::State::status="$state/status" -o Dir::Cache="$state/cache" "${release[@]}" \
    -o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3 \
    -o Acquire::Languages=none -qq "${@:2}"
}

# update SUITE: its package lists; with security updates where the suite has them, and sid's beside experimental's, which
# has only what is newer there.
update() {
  local suite=$1 state=$dir/.fetch/$1/apt
  mkdir -p "$state"/{lists,cache}/ && : >"$state/status"
  echo "deb $mirror $suite main" >"$state/sources"
  case $suite in
    experimental) echo "deb $mirror sid main" >>"$state/sources" ;;
    sid | unstable | *-*) ;;
    *) echo "deb $mirror-security $suite-security main" >>"$state/sources" ;;
  esac
  in_suite "$suite" apt-get -o APT::Update::Error-Mode=any update 2>"$state/errors" || { say "$suite: $(grep -m1 ^E: "$state/errors")"; return 1; }
}

# newest SUITE PACKAGE FIELD: a field of the newest version.
newest() { in_suite "$1" apt-cache show --no-all-versions "$2" 2>/dev/null | sed -n "s/^$3: //p" | head -n1; }

# depends SUITE PACKAGE PATTERN: the first package that it depends on whose name matches PATTERN.
depends() { newest "$1" "$2" Depends | tr ',' '\n' | sed 's/ *|.*//;s/^ *//;s/ .*//' | grep -E -m1 "$3"; }

# download SUITE FOLDER PACKAGE...: their .deb files, in FOLDER.
download() {
  local suite=$1 folder=$2; shift 2
  mkdir -p "$folder"
  (cd "$folder" && in_suite "$suite" apt-get download "$@" 2>errors) ||
    { say "$suite: $(grep -m1 ^E: "$folder/errors" || echo "cannot download $*")"; return 1; }
}
