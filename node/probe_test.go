package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
)

func portOf(t *testing.T, addr string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func local(c *corev1.Container) target { return target{Container: c, IP: "127.0.0.1"} }

func TestHTTPProbe(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "app.example" || r.Header.Get("X-Probe") != "yes" || r.URL.Query().Get("q") != "1" {
			http.Error(w, "wrong request", http.StatusTeapot)
		}
	})
	mux.HandleFunc("/bad", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of order", http.StatusServiceUnavailable)
	})
	mux.HandleFunc("/within", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/bad", http.StatusFound) })
	mux.HandleFunc("/elsewhere", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	plain, secure := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	defer plain.Close()
	defer secure.Close()
	header := []corev1.HTTPHeader{{Name: "Host", Value: "app.example"}, {Name: "X-Probe", Value: "yes"}}
	for name, tc := range map[string]struct {
		scheme  corev1.URIScheme
		server  *httptest.Server
		path    string
		headers []corev1.HTTPHeader
		err     string // empty: success
		timeout time.Duration
	}{
		"success":             {corev1.URISchemeHTTP, plain, "/ok?q=1", header, "", time.Minute},
		"any certificate":     {corev1.URISchemeHTTPS, secure, "/ok?q=1", header, "", time.Minute},
		"failure":             {corev1.URISchemeHTTP, plain, "/bad", nil, "HTTP probe failed with statuscode: 503: out of order", time.Minute},
		"not found":           {corev1.URISchemeHTTP, plain, "nothing", nil, "statuscode: 404", time.Minute},
		"redirect within":     {corev1.URISchemeHTTP, plain, "/within", nil, "statuscode: 503", time.Minute},
		"redirect elsewhere":  {corev1.URISchemeHTTP, plain, "/elsewhere", nil, "", time.Minute},
		"takes too long":      {corev1.URISchemeHTTP, plain, "/slow", nil, "context deadline exceeded", 50 * time.Millisecond},
		"plain to TLS server": {corev1.URISchemeHTTP, secure, "/ok", nil, "statuscode: 400", time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse(tc.server.URL)
			if err != nil {
				t.Fatal(err)
			}
			c := &corev1.Container{Name: "app", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(portOf(t, u.Host))}}}
			ctx, cancel := context.WithTimeout(context.Background(), tc.timeout)
			defer cancel()
			err = check(ctx, nil, corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: tc.path, Port: intstr.FromString("web"), Scheme: tc.scheme, HTTPHeaders: tc.headers}}, local(c))
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("err = %v, want %q", err, tc.err)
			}
		})
	}
}

func TestTCPProbe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := portOf(t, l.Addr().String())
	probe := corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(n)}}
	c := &corev1.Container{Name: "app"}
	if err := check(context.Background(), nil, probe, local(c)); err != nil {
		t.Errorf("open port: %v", err)
	}
	l.Close()
	if err := check(context.Background(), nil, probe, local(c)); err == nil {
		t.Error("closed port: want an error")
	}
	probe.TCPSocket.Port = intstr.FromString("web")
	if err := check(context.Background(), nil, probe, local(c)); err == nil || !strings.Contains(err.Error(), "has no port web") {
		t.Errorf("unknown port: err = %v", err)
	}
}

func TestExecProbeTellsTheEngineFromTheCommand(t *testing.T) {
	synctest.Test(t, testExecProbe)
}

func testExecProbe(t *testing.T) {
	engine := runtimetest.NewFake(image1)
	ctx := context.Background()
	if err := engine.Configure(ctx, runtime.Network{PodCIDR: mustPrefix("10.0.0.0/24")}); err != nil {
		t.Fatal(err)
	}
	pod := aPod("p")
	s, err := engine.EnsureSandbox(ctx, pod)
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.StartContainer(ctx, s, runtime.ContainerConfig{Pod: pod, Container: &pod.Spec.Containers[0]}); err != nil {
		t.Fatal(err)
	}
	pods, err := engine.Pods(ctx)
	if err != nil {
		t.Fatal(err)
	}
	at := target{Container: &pod.Spec.Containers[0], ID: pods[0].Containers[0].ID}
	try := func(command string) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		return check(ctx, engine, corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{command}}}, at)
	}
	if err := try("true"); err != nil {
		t.Errorf("success: %v", err)
	}
	if err := try("false"); err == nil || errors.As(err, new(undecided)) || err.Error() != "command exited with 1" {
		t.Errorf("failure: %v", err)
	}
	engine.Intercept(func(ctx context.Context, c runtimetest.Call) error {
		if c.Method == "Exec" {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return nil
	})
	if err := try("true"); err == nil || errors.As(err, new(undecided)) {
		t.Errorf("a command that hangs: %v, want a failure", err)
	}
	engine.Intercept(func(context.Context, runtimetest.Call) error { return errors.New("engine is restarting") })
	if err := try("true"); !errors.As(err, new(undecided)) {
		t.Errorf("an engine that fails: %v, want no verdict", err)
	}
}

func TestTally(t *testing.T) {
	ill := errors.New("ill")
	for name, tc := range map[string]struct {
		good, bad int
		outcomes  []error
		want      []bool // whether each completes a verdict
	}{
		"first success": {1, 3, []error{nil}, []bool{true}},
		"third failure": {1, 3, []error{ill, ill, ill, ill}, []bool{false, false, true, true}},
		"not in a row":  {1, 3, []error{ill, ill, nil, ill, ill}, []bool{false, false, true, false, false}},
		"two successes": {2, 1, []error{nil, ill, nil, nil}, []bool{false, true, false, true}},
	} {
		t.Run(name, func(t *testing.T) {
			count := tally{good: tc.good, bad: tc.bad}
			for i, err := range tc.outcomes {
				if got := count.add(err); got != tc.want[i] {
					t.Errorf("outcome %d: verdict = %v, want %v", i, got, tc.want[i])
				}
			}
		})
	}
}
