package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
)

// ask reads a path of one of the servers as a viewer.
func (c *trio) ask(ctx context.Context, t *testing.T, i int, path string) *http.Response {
	t.Helper()
	viewer := c.servers[i].authority.Renewing(pki.Identity{Name: "viewer", Group: pki.GroupViewers})
	transport := &http.Transport{TLSClientConfig: viewer.ToServers()}
	t.Cleanup(transport.CloseIdleConnections)
	req, err := http.NewRequestWithContext(ctx, "GET", "https://"+c.sites[i].at+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func (c *trio) get(t *testing.T, i int, path string) (code int, body string) {
	t.Helper()
	resp := c.ask(t.Context(), t, i, path)
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// create writes a ConfigMap by the server that leads.
func (c *trio) create(t *testing.T, leader int, name string) {
	t.Helper()
	if _, err := c.servers[leader].store.Update(t.Context(), func(tx *state.Txn) error {
		tx.Create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what no store tells.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

const configMaps = "/api/v1/namespaces/default/configmaps"

// A machine that knows one server, which does not lead, is a node like any other: its token was made there, it joins there, what
// it reports gets where it belongs, whoever leads hears that it lives, and its logs are read by way of every server.
func TestANodeOfAFollowerIsANodeLikeAnyOther(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	leader, others := c.followers(t)
	near, next := others[0], others[1]
	m := newMachine(t, "n1")
	m.host.Behave(func(runtime.ContainerConfig) runtimetest.Behaviour { return runtimetest.Behaviour{Output: "hello\n"} })
	m.agent(t, c.servers[near], c.sites[near].token(t, join.Wanted{Role: object.RoleAgent}))
	until(t, c.servers[near], "3 Pods run", converged(3))
	before, _ := state.Get[*corev1.Node](c.servers[near].store.View(), state.Key{Name: "n1"})
	if err := c.servers[leader].raft.TransferLeadership(t.Context(), c.sites[next].name); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, "the new leader does not hear of the node", func() bool {
		beats := c.servers[next].beats.Load()
		if beats == nil {
			return false
		}
		at, ok := beats.Heard("n1")
		return ok && at.After(began)
	})
	c.sites[near].commit(t, map[string]string{"web.yaml": large(4)})
	until(t, c.servers[near], "4 Pods run", converged(4))
	after, _ := state.Get[*corev1.Node](c.servers[near].store.View(), state.Key{Name: "n1"})
	if was, is := object.NodeReady(before), object.NodeReady(after); is.Status != corev1.ConditionTrue || !is.LastTransitionTime.Equal(&was.LastTransitionTime) {
		t.Errorf("the node was %+v and is %+v", was, is)
	}
	for i := range c.servers {
		for pod := range state.List[*corev1.Pod](c.servers[near].store.View(), "") {
			if code, log := c.get(t, i, "/api/v1/namespaces/default/pods/"+pod.Name+"/log"); code != http.StatusOK || log != "hello\n" {
				t.Errorf("log of %s by way of %s: %d %q", pod.Name, c.sites[i].name, code, log)
			}
		}
	}
}

func TestAnyServerMakesAndRevokesTokens(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	leader, others := c.followers(t)
	admin := Admin{DataDir: c.sites[others[0]].data}
	text := c.sites[others[0]].token(t, join.Wanted{Role: object.RoleAgent})
	token, err := join.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if known, err := admin.RevokeToken(t.Context(), token.ID); err != nil || !known {
		t.Errorf("revoked: %t, %v", known, err)
	}
	i := slices.IndexFunc(c.servers[leader].gate.Tokens(), func(l join.Listed) bool { return l.ID == token.ID && l.State == "revoked" })
	if i < 0 {
		t.Errorf("the leader has the tokens %+v", c.servers[leader].gate.Tokens())
	}
	if _, err := admin.CreateToken(t.Context(), join.Wanted{Role: "king"}); err == nil || !strings.Contains(err.Error(), `not "king"`) {
		t.Errorf("what the leader refuses is said as %v", err)
	}
}

func TestAFollowerShowsWhatWasAcknowledged(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	leader, others := c.followers(t)
	for n := range 20 {
		name := fmt.Sprint("cm", n)
		c.create(t, leader, name)
		if code, body := c.get(t, others[n%2], configMaps+"/"+name); code != http.StatusOK {
			t.Fatalf("%s is acknowledged, and a follower answers %d %s", name, code, body)
		}
	}
}

// Without a majority what is here can be read by those who say that this is enough for them; all others hear what is wrong.
func TestAServerWithoutAQuorumSaysSo(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	leader, others := c.followers(t)
	c.create(t, leader, "known")
	lone := others[0]
	if code, body := c.get(t, lone, configMaps+"/known"); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	c.isolate(lone)
	for range 2 { // the second time it is clear by now, and said at once
		code, body := c.get(t, lone, configMaps+"/known")
		if code != http.StatusServiceUnavailable || !strings.Contains(body, "no quorum: 1 of 3 servers answer, and 2 are needed") {
			t.Errorf("%d %s", code, body)
		}
	}
	if code, body := c.get(t, lone, configMaps+"/known?resourceVersion=0"); code != http.StatusOK {
		t.Errorf("what is here: %d %s", code, body)
	}
	if code, body := c.get(t, lone, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "heard of no leader") {
		t.Errorf("readyz: %d %s", code, body)
	}
	code, body := c.get(t, lone, "/mainstay/v1/servers")
	var members []Member
	if err := json.Unmarshal([]byte(body), &members); err != nil || code != http.StatusOK || len(members) != 3 {
		t.Fatalf("servers: %d %s", code, body)
	}
	for _, m := range members {
		if m.Reached != (m.Name == c.sites[lone].name) {
			t.Errorf("%+v", m)
		}
	}
	if code, body := c.get(t, others[1], configMaps+"/known"); code != http.StatusOK {
		t.Errorf("where the majority is: %d %s", code, body)
	}
	c.heal()
	eventually(t, "it does not read again once it is back", func() bool { code, _ := c.get(t, lone, configMaps+"/known"); return code == http.StatusOK })
}

// heard reads events of a watch until there are n, and returns the names they are about and the newest version.
func heard(t *testing.T, events *bufio.Scanner, n int) (names []string, version string) {
	t.Helper()
	for len(names) < n && events.Scan() {
		var e struct {
			Type   string
			Object corev1.ConfigMap
		}
		if err := json.Unmarshal(events.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		names, version = append(names, e.Type+" "+e.Object.Name), e.Object.ResourceVersion
	}
	return names, version
}

// Versions mean the same on every server: who leaves one goes on where it was with another.
func TestAWatchGoesOnWithAnotherServer(t *testing.T) {
	c := newTrio(t, map[string]string{"web.yaml": web})
	leader, others := c.followers(t)
	version := fmt.Sprint(c.servers[leader].store.View().Version)
	var want, got []string
	for n := range 30 {
		name := fmt.Sprintf("cm%02d", n)
		c.create(t, leader, name)
		want = append(want, "ADDED "+name)
	}
	for _, i := range []int{others[0], others[1], leader} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		resp := c.ask(ctx, t, i, configMaps+"?watch=true&resourceVersion="+version)
		var names []string
		names, version = heard(t, bufio.NewScanner(resp.Body), 10)
		got = append(got, names...)
		cancel()
	}
	if !slices.Equal(got, want) {
		t.Errorf("watched %v, want %v", got, want)
	}
}

// A server that follows has the newest commit decoded: once it leads, only what the next one changes is read.
func TestANewLeaderReadsOnlyWhatIsNew(t *testing.T) {
	one := func(name, value string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {v: %q}\n", name, value)
	}
	files := map[string]string{"web.yaml": web, "a.yaml": one("a", "1"), "b.yaml": one("b", "1")}
	c := newTrio(t, files)
	leader, others := c.followers(t)
	newMachine(t, "n1").agent(t, c.servers[leader], c.sites[leader].token(t, join.Wanted{Role: object.RoleAgent}))
	heir := c.servers[others[0]]
	until(t, heir, "the first commit is active", active(c.sites[0].head(t)))
	read := func() int { return int(heir.cfg.Git.Loader.Stats().Parsed) }
	eventually(t, "the next leader does not have the commit", func() bool { return read() == len(files) })
	c.handTo(t, others[0])
	c.sites[0].commit(t, map[string]string{"b.yaml": one("b", "2")})
	until(t, heir, "the next commit is active", active(c.sites[0].head(t)))
	if n := read() - len(files); n != 1 {
		t.Errorf("the new leader read %d files for a commit that changes one", n)
	}
}
