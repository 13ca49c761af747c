package e2e

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mainstay-cluster/mainstay/testhost"
)

// traces is all that a program may leave behind on a host, by where one looks.
type traces map[string][]string

// look reads what there is on a host.
func look(t testing.TB, host *testhost.Host) traces {
	t.Helper()
	found := traces{}
	for _, command := range []string{
		"ip -o link show", "ip -o address show", "ip -o -4 route show table all", "ip -o -6 route show table all", "ip -o -4 rule show", "ip -o neigh show nud permanent",
		"nft list ruleset", "iptables-save", "ip6tables-save",
	} {
		words := strings.Fields(command)
		found[command] = settled(host.Run(t, words[0], words[1:]...))
	}
	settings, _ := host.Command(t.Context(), "grep", "-rs", ".", "/proc/sys/net").Output() // some can only be written, which grep calls a failure
	if len(settings) == 0 {
		t.Fatal("the kernel's settings cannot be read")
	}
	found["/proc/sys/net"] = settled(string(settings))
	for _, list := range []string{"/containers/json?all=1", "/volumes", "/networks", "/images/json?all=1"} {
		var answer any
		host.API(t, "GET", list, nil, &answer)
		found[list] = identities(answer)
	}
	return found
}

// Counters, ages, numbers by which the kernel counts devices, and when it trusts an address that it gave itself, differ from look
// to look.
var (
	passing = regexp.MustCompile(`^\d+: |^#.*|counter packets \d+ bytes \d+|\[\d+:\d+\]|(valid|preferred)_lft \S+|nf_conntrack_(count|buckets):.*|/random/.*|^.*local fe80::.*|tentative `)
	spaces  = regexp.MustCompile(`\s+`)
)

// settled is a text's lines without what changes by itself, in one order.
func settled(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(spaces.ReplaceAllString(passing.ReplaceAllString(line, ""), " ")); line != "" {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

// identities are the ids and names in a list of the engine.
func identities(list any) []string {
	var found []string
	switch list := list.(type) {
	case []any:
		for _, item := range list {
			found = append(found, identities(item)...)
		}
	case map[string]any:
		if volumes, ok := list["Volumes"]; ok {
			return identities(volumes)
		}
		named, _ := json.Marshal([]any{list["Id"], list["Name"], list["Names"], list["RepoTags"]})
		found = append(found, string(named))
	}
	slices.Sort(found)
	return found
}

// leaves takes a node out of the cluster for good, and compares its host with what it was before it joined.
func (f *fleet) leaves(t *testing.T, m *member) {
	m.stop(t)
	if during := look(t, m.host); cmp.Equal(m.found, during) {
		t.Fatal("a node shows no traces of being one, so that none are left proves nothing")
	}
	if out, err := m.run(m.bin, "agent", "--cleanup", "--data-dir", m.data, "--docker-host", m.host.DockerHost()); err != nil {
		t.Fatal(err, out)
	}
	left := look(t, m.host)
	for where, before := range m.found {
		if diff := cmp.Diff(before, left[where]); diff != "" {
			t.Errorf("%s (-before it joined +after it left):\n%s", where, diff)
		}
	}
}
