#!/bin/sh
# Make a Debian or Ubuntu machine ready for the book: provision.sh [--machine | [--site] [CLONE]]
#
# Vagrant runs it in the VM; Lima, Multipass, WSL2 and a plain machine run it in the same way
# (vagrant/README.md). It does what is missing and nothing else: a second run changes nothing, and
# where everything is there it needs no network.
#
# CLONE is where the project lies; without it, the clone that holds this script.
# --machine is for a machine to which the project comes later: packages and kernel modules alone.
# --site serves the book on port 8000, now and at each boot; a machine of nobody but you wants that.
# --list prints the packages that the book needs, and --cloud-init this script as a cloud-init file
# (vagrant/cloud-init.yaml); they change nothing.
set -eu

# Packages by the program or the file that shows they are there.
needed='python3=python3 busybox=busybox-static ip=iproute2 ping=iputils-ping nft=nftables
    newuidmap=uidmap lsns=util-linux ps=procps strace=strace curl=curl rsync=rsync runc=runc
    pasta=passt slirp4netns=slirp4netns apparmor_parser=apparmor
    man=man-db /usr/share/man/man2/clone.2.gz=manpages-dev'
# What a container asks the kernel for. A module that is not loaded is in no list of /proc.
modules='overlay veth bridge nf_tables nft_nat nft_masq tun'

say() { printf 'provision: %s\n' "$*"; }
fail() { printf 'provision: %s\n' "$*" >&2; exit 1; }
there() { [ -e "$1" ] || command -v "$1" >/dev/null 2>&1; }

# put FILE: write what comes on the standard input there, if it is not what is there already.
put() {
    mkdir -p "$(dirname "$1")"
    cat >"$1.new"
    if cmp -s "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; say "wrote $1"; fi
}

install_packages() {
    missing=
    for pair in $needed; do there "${pair%%=*}" || missing="$missing ${pair#*=}"; done
    # Debian has the module that makes environments in a package of its own.
    python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
    [ -n "$missing" ] || return 0
    there apt-get || fail "please install, with this system's package manager:$missing"
    say "installing:$missing"
    apt-get -qq update
    # shellcheck disable=SC2086  # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing \
        >/dev/null
}

load_modules() {
    # In a kernel without modules (WSL2, some clouds) each is built in or not to be had, and in a
    # container nothing can be loaded: `python3 -m chapters doctor` says what is missing in the end.
    for module in $modules; do modprobe -q "$module" 2>/dev/null || true; done
    # shellcheck disable=SC2086  # a list of words
    printf '%s\n' $modules | put /etc/modules-load.d/minicontainer.conf
}

# The command, and a shell that begins where the book does.
set_up_shells() {
    ln -sfn "$clone/bin/minicontainer" /usr/local/bin/minicontainer
    put /etc/profile.d/minicontainer.sh <<END
# In an interactive shell only: a command by ssh keeps the directory that it asked for.
case \$- in *i*) [ ! -d '$clone' ] || cd '$clone' ;; esac
END
    put /etc/motd.d/minicontainer <<END

  This machine is for breaking: it belongs to minicontainer, a container engine that you can read.

    sudo -s                                 the book's commands are root's
    python3 -m chapters doctor              is all well here?
    minicontainer run --rm -it starter      a first container; \`exit\` leaves it
    python3 -m chapters list                what the chapters add

  The project is in $clone. The book: http://127.0.0.1:8000 on the machine in front of you.

END
}

# Images that need no registry: of this machine's own programs.
make_images() {
    for image in starter:latest starter:python; do
        engine images --quiet "$image" | grep -q . && continue
        case $image in *:python) python=--python ;; *) python= ;; esac
        # shellcheck disable=SC2086  # nothing, where there is no option
        engine image starter --quiet $python "$image" >/dev/null
        say "made the image $image"
    done
}
engine() { "$clone/bin/minicontainer" "$@"; }

# The site, where the host's browser finds it (the Vagrantfile forwards the port).
serve_site() {
    [ -d /run/systemd/system ] || { say "no systemd here: see the book by ./dev docs"; return; }
    put /etc/systemd/system/minicontainer-docs.service <<END
[Unit]
Description=The book of minicontainer, on port 8000

[Service]
ExecStart=$clone/dev docs serve --dev-addr 0.0.0.0:8000
Nice=19
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
END
    systemctl daemon-reload
    systemctl --quiet enable minicontainer-docs
    systemctl --no-block restart minicontainer-docs
}

# For clouds, Lima and Multipass: a new machine runs this file at its first boot.
print_cloud_init() {
    cat <<END
#cloud-config
# Made by: vagrant/provision.sh --cloud-init >vagrant/cloud-init.yaml
# The project comes by a mount or by git, and then: sudo vagrant/provision.sh
write_files:
  - path: /usr/local/sbin/minicontainer-provision
    permissions: "0755"
    content: |
$(sed 's/^\(.\)/      \1/' "$0")
runcmd:
  - [/usr/local/sbin/minicontainer-provision, --machine]
END
}

part=
case ${1:-} in
    --list)
        # shellcheck disable=SC2086  # a list of words
        printf '%s\n' $needed python3-venv | sed 's/.*=//'
        exit 0 ;;
    --cloud-init) print_cloud_init; exit 0 ;;
    --machine) part=machine ;;
    --site) part=site; shift ;;
    -*) fail "there is no option $1" ;;
esac
[ "$part" = machine ] || clone=${1:-$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)}
PATH=$PATH:/usr/sbin:/sbin
[ "$(id -u)" -eq 0 ] || fail "packages are root's to install: run me as root"
[ "$part" = machine ] || [ -x "$clone/bin/minicontainer" ] || fail "there is no clone in $clone"
if [ "$part" = site ]; then serve_site; exit 0; fi
install_packages
load_modules
[ "$part" != machine ] || { say "the machine is ready; next: vagrant/provision.sh in a clone"; exit 0; }
set_up_shells
make_images
"$clone/dev" environment test docs
say "ready: Linux $(uname -r), $(python3 --version)"
