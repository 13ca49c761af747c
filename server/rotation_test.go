package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/plan"
	"github.com/mainstay-cluster/mainstay/server/join"
	"github.com/mainstay-cluster/mainstay/server/pki"
	"github.com/mainstay-cluster/mainstay/state"
)

// reader reads the API by a copy of a kubeconfig, each time by a connection of its own, and notes what went wrong.
type reader struct {
	client *http.Client
	url    string

	mu     sync.Mutex
	reads  int
	failed []string
}

func newReader(t *testing.T, kubeconfig string) *reader {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(config.CertData, config.KeyData)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(config.CAData)
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}
	return &reader{client: &http.Client{Timeout: 10 * time.Second, Transport: transport}, url: config.Host + "/api/v1/pods?resourceVersion=0"}
}

// readOn reads until the test ends.
func readOn(t *testing.T, kubeconfig string) *reader {
	t.Helper()
	r := newReader(t, kubeconfig)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			r.once(ctx)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	return r
}

func (r *reader) once(ctx context.Context) {
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	resp, err := r.client.Do(req)
	r.note(ctx, resp, err)
}

func (r *reader) note(ctx context.Context, resp *http.Response, err error) {
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reads++
	switch {
	case err != nil:
		r.failed = append(r.failed, err.Error())
	case resp.StatusCode != http.StatusOK:
		r.failed = append(r.failed, resp.Status)
	}
	if resp != nil {
		resp.Body.Close()
	}
}

func (r *reader) result() (reads int, failed []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reads, slices.Clone(r.failed)
}

// The authority is rotated under a cluster that works: nobody fails, no node ceases to be Ready, no container is touched; and
// in the end the former one counts for nothing.
func TestAuthorityIsRotatedWithoutAnOutage(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, _ := s.control(t)
	until(t, running, "the cluster is known", func(r state.Reader) bool { return plan.LiveCluster(r) != nil })
	admin := Admin{DataDir: s.data}
	before := s.token(t, join.Wanted{Role: object.RoleAgent})
	machines := []*machine{newMachine(t, "n1"), newMachine(t, "n2"), newMachine(t, "n3")}
	for _, m := range machines {
		m.agent(t, running, before)
	}
	until(t, running, "three nodes are Ready", nodesReady("n1", "n2", "n3"))
	until(t, running, "3 Pods run", converged(3))
	kubeconfig := filepath.Join(t.TempDir(), "copy")
	copyFile(t, s.kubeconfig(t), kubeconfig)
	reading, former := readOn(t, kubeconfig), running.authority.Pin()
	ready := followTurns(t, running)

	status, err := admin.RotateAuthority(t.Context())
	if err != nil || status.Former != pki.Short(former) || len(status.Waiting) != 3 {
		t.Fatalf("%+v, %v: want three nodes waited for", status, err)
	}
	if _, err := admin.RotateAuthority(t.Context()); err == nil || !strings.Contains(err.Error(), "ca finish") {
		t.Errorf("a second rotation: %v", err)
	}
	if _, err := admin.FinishRotation(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "n2: ") {
		t.Errorf("it ends though nodes would be cut off: %v", err)
	}
	late := newMachine(t, "n4")
	late.agent(t, running, before) // its token names the former authority
	until(t, running, "four nodes are Ready", nodesReady("n1", "n2", "n3", "n4"))
	until(t, running, "all nodes have moved", func(r state.Reader) bool {
		return len(running.nodesWaiting(r)) == 0 && state.Len[*corev1.Node](r) == 4
	})
	if reads, failed := reading.result(); reads == 0 || len(failed) > 0 {
		t.Errorf("of %d reads by a kubeconfig from before, these failed: %v", reads, failed)
	}
	status, err = admin.FinishRotation(t.Context(), nil)
	if err != nil || status.Former != "" || len(status.Waiting) != 0 {
		t.Fatalf("the end: %+v, %v", status, err)
	}
	s.commit(t, map[string]string{"web.yaml": strings.Replace(web, "replicas: 3", "replicas: 5", 1)})
	until(t, running, "5 Pods run", converged(5))
	until(t, running, "nobody is lost", nodesReady("n1", "n2", "n3", "n4"))
	for _, m := range append(machines, late) {
		held, err := pki.OpenHeld(filepath.Join(m.data, identityDir))
		if err != nil || held.Trusts(former) && held.Mark() == running.authority.Mark() || !held.Trusts(running.authority.Pin()) {
			t.Errorf("%s trusts the wrong ones: %v", m.name, err)
		}
		for _, call := range touched(m.host) {
			if call.Method == "StopContainer" || call.Method == "RemovePod" {
				t.Errorf("P5: on %s the rotation made this call: %v", m.name, call)
			}
		}
	}
	for path, good := range map[string]bool{kubeconfig: false, s.kubeconfig(t): true} {
		r := newReader(t, path)
		if r.once(t.Context()); (len(r.failed) == 0) != good {
			t.Errorf("the kubeconfig in %s: %v, want good %t", path, r.failed, good)
		}
	}
	if lost := ready.lost; len(lost) > 0 {
		t.Errorf("these Pods ceased to be Ready: %v", lost)
	}
}

// A node that was away during a whole rotation is cut off by name alone, and learns what to do about it.
func TestNodeAwayDuringARotationIsToldWhatToDo(t *testing.T) {
	s := newSite(t, map[string]string{"web.yaml": web})
	running, _ := s.control(t)
	until(t, running, "the cluster is known", func(r state.Reader) bool { return plan.LiveCluster(r) != nil })
	admin, m := Admin{DataDir: s.data}, newMachine(t, "n1")
	token := s.token(t, join.Wanted{Role: object.RoleAgent})
	stop := m.agent(t, running, token)
	until(t, running, "the node is Ready", nodesReady("n1"))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.RotateAuthority(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.FinishRotation(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "n1") {
		t.Fatalf("it ends without a word about the node that is away: %v", err)
	}
	if _, err := admin.FinishRotation(t.Context(), []string{"n2"}); err == nil || !strings.Contains(err.Error(), "n2") {
		t.Errorf("a name that is none of theirs: %v", err)
	}
	if _, err := admin.FinishRotation(t.Context(), []string{"n1"}); err != nil {
		t.Fatal(err)
	}
	for _, old := range []string{"", token} {
		log := newLines()
		stop := m.agentLogging(t, running, old, log)
		log.await(t, link.ErrAuthority.Error())
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	running.unheard(t, "n1")
	m.agent(t, running, s.token(t, join.Wanted{Role: object.RoleAgent}))
	until(t, running, "the node is back", nodesReady("n1"))
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
