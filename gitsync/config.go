// Package gitsync follows one branch of one Git repository and makes each commit the cluster's desired state, or records
// why it cannot be: it finds the head, fetches it, loads it, plans and activates, in one transaction. It checks nothing
// out, and writes nothing to the repository. What it cannot read it takes for unknown, never for absent. Start at Follow.
package gitsync

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/mainstay-cluster/mainstay/gitsync/load"
	"github.com/mainstay-cluster/mainstay/object"
)

// DefaultPoll is how often a remote repository is asked for its head.
const DefaultPoll = 15 * time.Second

// Config says what to follow and how to get at it.
type Config struct {
	Repo     string        // a path, file://, http://, https://, ssh:// or user@host:path
	Branch   string        // "" is the repository's HEAD, as first seen
	Path     string        // directory of the repository that holds the manifests; "" is all of it
	CacheDir string        // holds the bare copy of a remote repository; owned by gitsync, may be deleted at any time
	Poll     time.Duration // 0 is DefaultPoll
	Loader   *load.Loader  // remembers by content what was decoded; nil: each Follow begins anew, and there is no Warm

	Username  string // for http(s); "" is what the URL says, else "git"
	Token     string // for http(s); a password or an access token
	TokenFile string // a file that holds the token, read anew at every use, so that it can be rotated

	SSHKey     string // file with a private key without passphrase; "" is ~/.ssh/id_ed25519, id_ecdsa or id_rsa, or the agent
	KnownHosts string // file with the host keys to accept; "" is ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts
}

func (c Config) poll() time.Duration {
	if c.Poll <= 0 {
		return DefaultPoll
	}
	return c.Poll
}

// transportKind is how a repository is reached.
type transportKind int

const (
	local transportKind = iota
	web
	secureShell
)

// location is a parsed Config.Repo, credentials apart.
type location struct {
	kind     transportKind
	dir      string // local: absolute
	scheme   string // web: http or https
	host     string // with port, if it has one
	path     string // as the server takes it: an absolute one for URLs, as written for user@host:path
	user     string
	password string
}

var (
	errNoRepo = errors.New("no repository: say which one with --repo PATH or --repo URL")
	scpLike   = regexp.MustCompile(`^(?:([^@/\s:]+)@)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([^:].*)$`)
)

func parseLocation(repo string) (location, error) {
	switch m := scpLike.FindStringSubmatch(repo); {
	case repo == "":
		return location{}, errNoRepo
	case strings.Contains(repo, "://"):
		return parseURL(repo)
	case strings.HasPrefix(repo, "-"), strings.Contains(repo, "::"):
		return location{}, fmt.Errorf("repository %q: want a path, file://, http(s)://, ssh:// or user@host:path", redact(repo))
	case m != nil && !strings.HasPrefix(m[3], "-"):
		return location{kind: secureShell, user: m[1], host: m[2], path: m[3]}, nil
	}
	return localPath(repo)
}

func localPath(dir string) (location, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return location{}, fmt.Errorf("repository %s: %w", dir, err)
	}
	return location{kind: local, dir: abs}, nil
}

func parseURL(repo string) (location, error) {
	u, err := url.Parse(repo)
	if err != nil {
		// The parser's error repeats the URL, and with it the password.
		return location{}, fmt.Errorf("repository %s: not a URL", redact(repo))
	}
	password, _ := u.User.Password()
	at := location{host: strings.ToLower(u.Host), path: u.Path, user: u.User.Username(), password: password}
	switch u.Scheme {
	case "file":
		if u.Host != "" && u.Host != "localhost" {
			return location{}, fmt.Errorf("repository %s: a file:// URL names no host: write file:///absolute/path", redact(repo))
		}
		return localPath(u.Path)
	case "http", "https":
		at.kind, at.scheme = web, u.Scheme
	case "ssh", "git+ssh", "ssh+git":
		at.kind = secureShell
		if strings.HasPrefix(at.path, "/~") {
			at.path = at.path[1:] // a home directory, as Git has it
		}
	default:
		return location{}, fmt.Errorf("repository %s: %s:// is not supported: want a path, file://, http(s)://, ssh:// or user@host:path", redact(repo), u.Scheme)
	}
	if at.host == "" || strings.Trim(at.path, "/") == "" || strings.HasPrefix(at.host, "-") || strings.HasPrefix(at.user, "-") {
		return location{}, fmt.Errorf("repository %s: want a host and a path", redact(repo))
	}
	return at, nil
}

// userinfo is greedy: a password may hold slashes and at signs.
var userinfo = regexp.MustCompile(`(://)\S*@`)

// redact takes credentials out of whatever text mentions a URL.
func redact(text string) string { return userinfo.ReplaceAllString(text, "$1") }

// String names the repository for people, without credentials.
func (l location) String() string {
	switch l.kind {
	case web:
		return l.scheme + "://" + l.host + l.path
	case secureShell:
		if strings.HasPrefix(l.path, "/") {
			return "ssh://" + l.host + l.path
		}
		return l.host + ":" + l.path
	}
	return l.dir
}

// canonical is the same for every way to name the same repository.
func (l location) canonical() string {
	if l.kind == local {
		dir := l.dir
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			dir = real
		}
		return strings.TrimSuffix(dir, "/.git")
	}
	return l.host + "/" + strings.TrimSuffix(strings.Trim(l.path, "/"), ".git")
}

// Location names the repository for people, without credentials. It fails where the configuration makes no sense.
func (c Config) Location() (string, error) {
	at, err := parseLocation(c.Repo)
	if err != nil {
		return "", err
	}
	if _, err := c.directory(); err != nil {
		return "", err
	}
	return at.String(), nil
}

// directory is Path in the form trees use: "" for the root, "apps/prod" for a directory.
func (c Config) directory() (string, error) {
	dir := strings.Trim(path.Clean("/"+filepath.ToSlash(c.Path)), "/")
	if strings.Contains("/"+filepath.ToSlash(c.Path)+"/", "/../") {
		return "", fmt.Errorf("--path %s: must lie within the repository", c.Path)
	}
	return dir, nil
}

// ClusterID is the name by which a cluster knows its containers: that of the Cluster in the repository, else one made from
// where the repository is, so that a rebuild finds the same.
func ClusterID(c Config, declared *object.Cluster) string {
	if declared != nil {
		return declared.Name
	}
	dir, _ := c.directory()
	at, err := parseLocation(c.Repo)
	if err != nil {
		at = location{dir: c.Repo}
	}
	sum := sha256.Sum256([]byte(at.canonical() + "\n" + dir))
	return "repo-" + hex.EncodeToString(sum[:])[:10]
}
