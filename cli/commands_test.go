package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func TestHistory(t *testing.T) {
	failed := converged(noon)
	failed.Status.Phase = object.RevisionFailed
	var b strings.Builder
	if err := printHistory(&b, []Commit{commitOf(rejected(noon), ""), commitOf(converged(noon), commit1[:12]), commitOf(failed, "")}, noon); err != nil {
		t.Fatal(err)
	}
	golden(t, "history", b.String())
}

func TestHistoryIsNewestFirstAndLimited(t *testing.T) {
	c := startCluster(t, clusterAt(commit2, commit2[:12]), revision(commit1, 1, object.RevisionSuperseded), revision(commit2, 2, object.RevisionConverged))
	got := c.run(t, "history", "--limit", "1", "-o", "json")
	var commits []Commit
	if err := json.Unmarshal([]byte(got.out), &commits); err != nil || got.code != 0 {
		t.Fatalf("code %d, %v, %s", got.code, err, got.err)
	}
	if len(commits) != 1 || commits[0].Commit != commit2 || !commits[0].InForce {
		t.Errorf("commits %+v", commits)
	}
}

func event(name, pod, kind string, ago time.Duration) *corev1.Event {
	e := &corev1.Event{ObjectMeta: meta("default", name), Type: kind, Reason: "Because", Message: "message of " + name,
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: pod}}
	e.LastTimestamp.Time = time.Now().Add(-ago)
	return e
}

func TestEvents(t *testing.T) {
	c := startCluster(t, event("e1", "web", corev1.EventTypeNormal, 5*time.Minute), event("e2", "db", corev1.EventTypeWarning, 10*time.Minute))
	for name, tc := range map[string]struct {
		args []string
		want []string // reasons' messages in order
	}{
		"latest last": {nil, []string{"message of e2", "message of e1"}},
		"of a pod":    {[]string{"--for", "pod/web"}, []string{"message of e1"}},
		"warnings":    {[]string{"--warnings", "-A"}, []string{"message of e2"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.run(t, append([]string{"events"}, tc.args...)...)
			var messages []string
			for _, line := range strings.Split(strings.TrimSpace(got.out), "\n")[1:] {
				messages = append(messages, line[strings.Index(line, "message"):])
			}
			if diff := cmp.Diff(tc.want, messages); diff != "" || got.code != 0 {
				t.Errorf("code %d (-want +got):\n%s", got.code, diff)
			}
		})
	}
}

func TestEventsRowsAlign(t *testing.T) {
	often := event("e1", "web-7d4b9c-x2x5p", corev1.EventTypeWarning, 0)
	often.LastTimestamp.Time, often.FirstTimestamp.Time, often.Count = noon.Add(-time.Minute), noon.Add(-time.Hour), 12
	once := event("e2", "db", corev1.EventTypeNormal, 0)
	once.LastTimestamp.Time = noon
	var b strings.Builder
	if err := (&tableWriter{w: &b}).writeCells(eventRows([]*corev1.Event{often, once}, noon, (&eventsOptions{allNamespaces: true}).columns())); err != nil {
		t.Fatal(err)
	}
	golden(t, "events", b.String())
}

func TestEventsWatch(t *testing.T) {
	c := startCluster(t, event("e1", "web", corev1.EventTypeNormal, 0))
	ctx, cancel := context.WithCancel(t.Context())
	out := &lines{wanted: 3, done: cancel}
	out.each = func(n int) {
		if n == 2 {
			statetest.Put(t, c.store, event("e2", "db", corev1.EventTypeNormal, 0), event("e3", "web", corev1.EventTypeNormal, 0))
		}
	}
	Execute(ctx, testRoot(out, out), []string{"events", "-w", "--for", "pod/web", "--kubeconfig", c.kubeconfig})
	if got := out.text(); len(got) != 3 || !strings.HasSuffix(got[2], "message of e3") {
		t.Errorf("lines:\n%s", strings.Join(got, "\n"))
	}
}

func TestLogsAsksForWhatTheFlagsSay(t *testing.T) {
	pod := readyPod("default", "web-1")
	pod.Labels = map[string]string{"app": "web"}
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "sidecar"})
	n := node("n1")
	n.Annotations = map[string]string{}
	c := startCluster(t, pod, deployment("web", 1, 1), n)
	c.logLines = "one\ntwo\n"
	for name, tc := range map[string]struct {
		args     []string
		code     int
		out, err string
	}{
		"no such pod":       {[]string{"logs", "x"}, 1, "", "there is no pod \"x\" in namespace default\n"},
		"no such workload":  {[]string{"logs", "deploy/x"}, 1, "", "there is no deployment \"x\" in namespace default\n"},
		"no such container": {[]string{"logs", "web-1", "-c", "x"}, 1, "", "pod \"web-1\" has no container \"x\"; it has web, sidecar\n"},
		"not of nodes":      {[]string{"logs", "node/n1"}, 1, "", "node \"n1\" selects no Pods; name a pod, deployment, replicaset or service\n"},
		"no argument":       {[]string{"logs"}, 2, "", "say which Pod"},
		"negative":          {[]string{"logs", "web-1", "--tail=-7"}, 2, "", "--tail"},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.run(t, tc.args...)
			if got.code != tc.code || got.out != tc.out || !strings.Contains(got.err, tc.err) {
				t.Errorf("code %d, stdout %q, stderr %q", got.code, got.out, got.err)
			}
		})
	}
	o := logsOptions{follow: true, previous: true, timestamps: true, tail: 5, since: 1500 * time.Millisecond}
	want := "container=web&follow=true&previous=true&sinceSeconds=2&tailLines=5&timestamps=true"
	if got := o.query("web").Encode(); got != want {
		t.Errorf("query %q, want %q", got, want)
	}
}

func TestLogsPrefersAReadyPod(t *testing.T) {
	newest, ready := crashing("new"), readyPod("default", "old")
	newest.CreationTimestamp.Time = noon
	if byUsefulness(ready, newest) >= 0 || byUsefulness(crashing("a"), unschedulable("b")) >= 0 {
		t.Error("a Ready Pod must come before one that is not, and a running one before one that waits")
	}
}

func TestWait(t *testing.T) {
	reverted := converged(noon)
	reverted.Spec.Subject = `Revert "Run four web servers"`
	refused, failed, superseded := rejected(noon), revision(commit1, 1, object.RevisionFailed), revision(commit1, 1, object.RevisionSuperseded)
	failed.Status.Message = "pod default/web-1: ImagePullBackOff"
	for name, tc := range map[string]struct {
		objects []object.Object
		args    []string
		code    int
		want    string // in either stream
	}{
		"converged": {[]object.Object{clusterAt(commit1, commit1[:12]), converged(noon)}, []string{"1111111"}, 0, `1111111 "Run four web servers" converged`},
		"quoted":    {[]object.Object{clusterAt(commit1, commit1[:12]), reverted}, []string{"1111111"}, 0, `1111111 "Revert "Run four web servers"" converged`},
		"rejected": {[]object.Object{clusterAt(commit2, ""), refused}, []string{commit2}, 1,
			"was rejected:\napps/web.yaml:12:5: spec.replica: unknown field"},
		"failed":     {[]object.Object{clusterAt(commit1, ""), failed}, []string{"1111"}, 1, "failed: pod default/web-1: ImagePullBackOff"},
		"superseded": {[]object.Object{clusterAt(commit2, commit2[:12]), superseded, revision(commit2, 2, object.RevisionActive)}, []string{"1111"}, 1, `was superseded by 2222222 "Change 22"`},
		"too late":   {nil, []string{"1111", "--timeout", "1ms"}, 2, "1111 has not converged within 1ms: "},
		"ambiguous": {[]object.Object{revision("1111111b"+commit2[8:], 2, object.RevisionActive), converged(noon), clusterAt(commit1, "")}, []string{"1111"}, 2,
			"1111 is the beginning of several commits"},
	} {
		t.Run(name, func(t *testing.T) {
			c := startCluster(t, tc.objects...)
			got := c.run(t, append([]string{"wait", "--commit"}, tc.args...)...)
			if got.code != tc.code || !strings.Contains(got.out+got.err, tc.want) {
				t.Errorf("code %d, want %d and %q; stdout %q, stderr %q", got.code, tc.code, tc.want, got.out, got.err)
			}
		})
	}
}

func TestWaitSaysWhatIsMissing(t *testing.T) {
	for name, tc := range map[string]struct {
		objects      []object.Object
		commit, want string
	}{
		"active":     {[]object.Object{clusterAt(commit1, commit1[:12]), revision(commit1, 1, object.RevisionActive)}, "1111", "Waiting for 1111: it is active, and its workloads are starting"},
		"never seen": {[]object.Object{clusterAt(commit1, commit1[:12])}, "abcdef0", "Waiting for abcdef0: the cluster has not seen it; branch main is at 1111111. Has it been pushed?"},
		"being read": {[]object.Object{clusterAt(commit1, "")}, "1111", "Waiting for 1111: it is being read"},
		"nothing":    {nil, "abcdef0", "Waiting for abcdef0: the cluster has not seen any commit yet"},
	} {
		t.Run(name, func(t *testing.T) {
			c := startCluster(t, tc.objects...)
			ctx, cancel := context.WithCancel(t.Context())
			out := &lines{wanted: 1, done: cancel}
			code := Execute(ctx, testRoot(out, out), []string{"wait", "--commit", tc.commit, "--kubeconfig", c.kubeconfig})
			if got := out.text(); code != exitInterrupt || got[0] != tc.want {
				t.Errorf("code %d, lines %q, want %q", code, got, tc.want)
			}
		})
	}
}

func TestWaitSeesACommitThatComesLater(t *testing.T) {
	c := startCluster(t, clusterAt(commit1, commit1[:12]), converged(noon))
	out := &lines{}
	out.each = func(n int) {
		switch n {
		case 1: // waiting for a commit not seen yet
			statetest.Put(t, c.store, revision(commit2, 2, object.RevisionActive))
		case 2: // it is active
			statetest.Update(t, c.store, func(tx *state.Txn) {
				r, _ := state.Get[*object.Revision](tx, state.Key{Name: commit2[:12]})
				done := r.DeepCopy()
				done.Status.Phase = object.RevisionConverged
				tx.SetStatus(done)
			})
		}
	}
	code := Execute(t.Context(), testRoot(out, out), []string{"wait", "--commit", commit2, "--timeout", "1m", "--kubeconfig", c.kubeconfig})
	got := out.text()
	if code != 0 || len(got) != 3 || !strings.Contains(got[2], `2222222 "Change 22" converged`) {
		t.Errorf("code %d, lines:\n%s", code, strings.Join(got, "\n"))
	}
}

func TestVersion(t *testing.T) {
	c := startCluster(t)
	got := c.run(t, "version", "-o", "json")
	var v Versions
	if err := json.Unmarshal([]byte(got.out), &v); err != nil || v.Server == nil || v.Server.Version == "" || v.Client.Go == "" {
		t.Errorf("code %d, %v: %s", got.code, err, got.out)
	}
	t.Setenv("MAINSTAY_KUBECONFIG", "")
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	if got := run(t, "version"); got.code != 0 && strings.Contains(got.out, "Server") {
		t.Errorf("without a cluster: code %d, %s", got.code, got.err)
	}
}

func TestConnectionErrorsSayWhatToDo(t *testing.T) {
	down := httptest.NewTLSServer(http.NotFoundHandler())
	unreachable := writeKubeconfig(t, down, testToken)
	down.Close()
	up := startCluster(t)
	wrongToken := strings.ReplaceAll(mustRead(t, up.kubeconfig), testToken, "other")
	wrongPath := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrongPath, []byte(wrongToken), 0o600); err != nil {
		t.Fatal(err)
	}
	html := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }))
	defer html.Close()
	brokenKey := strings.ReplaceAll(mustRead(t, up.kubeconfig), `token: "`+testToken+`"`, "client-certificate-data: AAAA, client-key-data: AAAA")
	for name, tc := range map[string]struct{ kubeconfig, want string }{
		"none there":          {filepath.Join(t.TempDir(), "k"), "a server writes one to <data-dir>/kubeconfig"},
		"server down":         {unreachable, "Is `mainstay up` running there?"},
		"credentials":         {wrongPath, "does not accept the credentials in " + wrongPath},
		"not our server":      {writeKubeconfig(t, html, ""), "did not answer /api/v1/pods as a Mainstay server does"},
		"broken kubeconfig":   {fileOf(t, "clusters: 7"), "is not one: it must be YAML with clusters, users and contexts"},
		"broken key":          {fileOf(t, brokenKey), "holds no credentials that can be used"},
		"empty kubeconfig":    {fileOf(t, ""), "names no cluster"},
		"another's CA":        {otherAuthority(t, up.kubeconfig), "its certificate is of another authority"},
		"kubeconfig is a dir": {t.TempDir(), "kubeconfig "},
	} {
		t.Run(name, func(t *testing.T) {
			got := run(t, "get", "pods", "-A", "--kubeconfig", tc.kubeconfig)
			if got.code != 2 || !strings.HasPrefix(got.err, "error: ") || !strings.Contains(got.err, tc.want) {
				t.Errorf("code %d, stderr %q, want %q", got.code, got.err, tc.want)
			}
		})
	}
}

func TestNoClusterHere(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("MAINSTAY_DATA_DIR", dir)
	got := run(t, "get", "pods")
	want := "error: no cluster here (there is no " + dir + "/kubeconfig)\nStart one with `mainstay up --repo PATH`, or point --kubeconfig at one.\n"
	if got.code != 2 || got.err != want {
		t.Errorf("code %d, stderr %q, want %q", got.code, got.err, want)
	}
}

// What is wrong whatever the cluster says is told before anybody needs to have one.
func TestASlipIsToldBeforeTheClusterIsLookedFor(t *testing.T) {
	t.Setenv("MAINSTAY_DATA_DIR", t.TempDir()) // no cluster here
	repository(t, map[string]string{"a.yaml": configMap("a", "b")})
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"plan of no directory":   {[]string{"plan", "--path", "x", "/nowhere"}, "there is no directory /nowhere"},
		"plan of no commit":      {[]string{"plan", "nowhere"}, `"nowhere" is neither a directory nor a commit of the repository here`},
		"wait for no commit":     {[]string{"wait", "--commit", "zz"}, `"zz" names no commit of the repository here`},
		"wait for less than 0s":  {[]string{"wait", "--timeout", "-1s"}, "--timeout cannot be negative; 0 is for ever"},
		"a commit that there is": {[]string{"wait", "--commit", "HEAD"}, "no cluster here"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := run(t, tc.args...); got.code != 2 || !strings.HasPrefix(got.err, "error: "+tc.want) {
				t.Errorf("code %d, stderr %q, want %q", got.code, got.err, tc.want)
			}
		})
	}
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func fileOf(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// otherAuthority is a kubeconfig that expects a server of another authority.
func otherAuthority(t *testing.T, kubeconfig string) string {
	t.Helper()
	text := mustRead(t, kubeconfig)
	start := strings.Index(text, "certificate-authority:")
	text = text[:start] + "certificate-authority-data: " + otherCA + text[start+strings.Index(text[start:], "}"):]
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWaitWithoutCommit(t *testing.T) {
	c := startCluster(t, clusterAt(commit1, commit1[:12]), converged(noon))
	t.Chdir(t.TempDir())
	if got := c.run(t, "wait", "--timeout", "1m"); got.code != 0 || !strings.Contains(got.out, "1111111") {
		t.Errorf("outside of a repository: code %d: %s%s", got.code, got.out, got.err)
	}
	repo := repository(t, map[string]string{"a.yaml": configMap("a", "b")})
	head, err := repo.Head()
	if err != nil {
		t.Fatal(err)
	}
	got := c.run(t, "wait", "--timeout", "1ms")
	if want := short(head.Hash().String()) + " has not converged within 1ms"; got.code != 2 || !strings.Contains(got.err, want) {
		t.Errorf("in a repository: code %d, stderr %q, want %q", got.code, got.err, want)
	}
	t.Chdir(t.TempDir())
	if got := startCluster(t).run(t, "wait"); got.code != 2 || !strings.Contains(got.err, "the cluster has not seen any commit yet") {
		t.Errorf("before any commit: code %d, stderr %q", got.code, got.err)
	}
}

func TestProgressTakesABackOffForTheErrorItRepeats(t *testing.T) {
	var b strings.Builder
	p := progress{w: &b}
	for _, text := range []string{
		"Pod web-1: ErrImagePull: no such host",
		`Pod web-1: ImagePullBackOff: Back-off pulling image "example.com/web:1": ErrImagePull: no such host`,
		"Pod web-1: ErrImagePull: no such host",
		"Pod web-1: ErrImagePull: manifest unknown",
	} {
		p.say(text)
	}
	if want := "Pod web-1: ErrImagePull: no such host\nPod web-1: ErrImagePull: manifest unknown\n"; b.String() != want {
		t.Errorf("said %q, want %q", b.String(), want)
	}
}

func TestEventsOfOneSecondAreInTheOrderTheyCame(t *testing.T) {
	pulled, scheduled := event("a", "web", corev1.EventTypeNormal, 0), event("b", "web", corev1.EventTypeNormal, 0)
	pulled.LastTimestamp.Time, scheduled.LastTimestamp.Time = noon, noon
	pulled.ResourceVersion, scheduled.ResourceVersion = "10", "9"
	if byTime(scheduled, pulled) >= 0 {
		t.Error("version 9 must come before version 10")
	}
}
