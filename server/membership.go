package server

import (
	"cmp"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mainstay-cluster/mainstay/durable"
	"github.com/mainstay-cluster/mainstay/gitsync"
)

const (
	// membershipFile holds what a server keeps of who it is among the servers.
	membershipFile = "server.json"
	// elder is what a server is called whose data is older than names.
	elder = "server"
	// suffixBytes keep a server that lost its disk from coming back under the name whose votes it has forgotten.
	suffixBytes = 3
)

// membership is who a server is among the servers, for as long as it has its data directory.
type membership struct {
	Name string `json:"name"`
	// Joined: a token let it in, so it never begins a cluster of its own.
	Joined bool `json:"joined,omitempty"`
	// Servers are where the others were when it joined: until its own store tells.
	Servers []string `json:"servers,omitempty"`
	// What the cluster followed when it joined: for a server that is not told which repository to follow.
	Repo   string `json:"repo,omitempty"`
	Branch string `json:"branch,omitempty"`
	Path   string `json:"path,omitempty"`
}

// readMembership returns what a data directory says. The error is fs.ErrNotExist if no server ever ran on it.
func readMembership(dataDir string) (membership, error) {
	raw, err := os.ReadFile(filepath.Join(dataDir, membershipFile))
	if errors.Is(err, fs.ErrNotExist) {
		if _, older := os.Stat(filepath.Join(dataDir, "raft")); older == nil {
			return membership{Name: elder}, nil
		}
	}
	if err != nil {
		return membership{}, fmt.Errorf("read which server this is: %w", err)
	}
	var m membership
	if err := json.Unmarshal(raw, &m); err != nil || m.Name == "" {
		return membership{}, fmt.Errorf("read which server this is: %s does not say", filepath.Join(dataDir, membershipFile))
	}
	return m, nil
}

func (m membership) keep(dataDir string) error {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("keep which server this is: %w", err)
	}
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return fmt.Errorf("keep which server this is: %w", err)
	}
	if err := durable.ReplaceFile(filepath.Join(dataDir, membershipFile), append(raw, '\n')); err != nil {
		return fmt.Errorf("keep which server this is: %w", err)
	}
	return nil
}

// follows says which repository a server follows: the one it was told to, else what the cluster followed when it joined.
func (m membership) follows(told gitsync.Config) gitsync.Config {
	if told.Repo == "" {
		told.Repo, told.Branch, told.Path = m.Repo, cmp.Or(told.Branch, m.Branch), cmp.Or(told.Path, m.Path)
	}
	return told
}

// newName is what a server that is none yet will be called: what the user says, else the host's name with something that no
// other has.
func newName(wanted string) (string, error) {
	if wanted != "" {
		if problems := validation.IsDNS1123Subdomain(wanted); len(problems) > 0 {
			return "", fmt.Errorf("--name: %q cannot be a server's name: %s", wanted, strings.Join(problems, "; "))
		}
		return wanted, nil
	}
	host, _ := os.Hostname() // whatever it is called, the rest is enough
	host, _, _ = strings.Cut(strings.ToLower(host), ".")
	if len(validation.IsDNS1123Label(host)) > 0 {
		host = elder
	}
	random := make([]byte, suffixBytes)
	_, _ = rand.Read(random) // it never fails: the process ends instead
	return host + "-" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(random)), nil
}
