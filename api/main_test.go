package api_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"sigs.k8s.io/yaml"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

// asKubectl makes the test binary be kubectl: the version is the one in go.mod, and nothing has to be installed.
const asKubectl = "MAINSTAY_TEST_AS_KUBECTL"

func TestMain(m *testing.M) {
	if os.Getenv(asKubectl) == "" {
		os.Exit(m.Run())
	}
	if err := kubectl.NewDefaultKubectlCommand().Execute(); err != nil {
		os.Exit(1)
	}
}

// identities are the holders of the tokens of the same name.
var identities = map[string]api.Identity{
	"admin":    {Name: "ada", Groups: []string{api.GroupAdmins}},
	"viewer":   {Name: "vic", Groups: []string{api.GroupViewers}},
	"n1":       {Name: "n1", Groups: []string{api.GroupNodes}, Machine: "machine-1"},
	"n2":       {Name: "n2", Groups: []string{api.GroupNodes}},
	"n3":       {Name: "n3", Groups: []string{api.GroupNodes}},
	"s2":       {Name: "s2", Groups: []string{api.GroupServers}},
	"stranger": {Name: "eve", Groups: []string{"developers"}},
}

// verified is what the TLS layer knows of who has brought a certificate for id.
func verified(id api.Identity) *tls.ConnectionState {
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: id.Name, Organization: id.Groups, SerialNumber: id.Machine}}
	return &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}
}

// server is an API on a TLS port of its own. Who brings a token is taken for who has brought a certificate.
type server struct {
	t     testing.TB
	store *state.Store
	api   *api.API
	http  *httptest.Server
	watch chan string // the paths of watches, as they are asked for
}

func serve(t testing.TB, cfg api.Config, objects ...object.Object) *server {
	t.Helper()
	if cfg.Store == nil {
		cfg.Store = statetest.New(t, objects...)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	s := &server{t: t, store: cfg.Store, api: api.New(cfg), watch: make(chan string, 64)}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("watch") {
			select {
			case s.watch <- r.URL.Path:
			default: // nobody cares
			}
		}
		if id, ok := identities[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]; ok {
			r.TLS = verified(id)
		}
		s.api.ServeHTTP(w, r)
	}))
	s.http.EnableHTTP2 = true
	s.http.StartTLS()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.api.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		s.http.Close()
	})
	return s
}

// do makes one request with a token and returns the answer.
func (s *server) do(token, method, path string, body any, headers ...string) (int, string) {
	s.t.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			s.t.Fatal(err)
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.http.URL+path, in)
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.http.Client().Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, string(out)
}

// get reads a path as admin into v.
func (s *server) get(path string, v any, headers ...string) {
	s.t.Helper()
	code, body := s.do("admin", http.MethodGet, path, nil, headers...)
	if code != http.StatusOK {
		s.t.Fatalf("GET %s: %d %s", path, code, body)
	}
	if err := json.Unmarshal([]byte(body), v); err != nil {
		s.t.Fatalf("GET %s: %v in %s", path, err, body)
	}
}

// refused makes a request that must fail, and returns its Status.
func (s *server) refused(token, method, path string, body any) metav1.Status {
	s.t.Helper()
	code, out := s.do(token, method, path, body)
	var status metav1.Status
	if err := json.Unmarshal([]byte(out), &status); err != nil || status.Kind != "Status" || status.Status != metav1.StatusFailure {
		s.t.Fatalf("%s %s: %d %s, want a Status of failure", method, path, code, out)
	}
	if int(status.Code) != code {
		s.t.Errorf("%s %s: code %d in the body of a %d", method, path, status.Code, code)
	}
	return status
}

func (s *server) clientset() *kubernetes.Clientset {
	s.t.Helper()
	cs, err := kubernetes.NewForConfig(&rest.Config{
		Host: s.http.URL, BearerToken: "admin", TLSClientConfig: rest.TLSClientConfig{CAData: s.ca()},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return cs
}

func (s *server) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
}

// kubectl prepares the real kubectl against the server. It ends with the test.
func (s *server) kubectl(args ...string) *exec.Cmd {
	s.t.Helper()
	home := s.t.TempDir()
	config := filepath.Join(home, "config")
	raw, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []any{map[string]any{"name": "test", "cluster": map[string]any{"server": s.http.URL, "certificate-authority-data": s.ca()}}},
		"users":    []any{map[string]any{"name": "test", "user": map[string]any{"token": "admin"}}},
		"contexts": []any{map[string]any{"name": "test", "context": map[string]any{"cluster": "test", "user": "test"}}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(config, raw, 0o600); err != nil {
		s.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	if installed := os.Getenv("MAINSTAY_TEST_KUBECTL"); installed != "" {
		self = installed
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	s.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, self, args...)
	// A program with the race detector sleeps for a second at its end, for goroutines that may yet race; it is kubectl's then.
	cmd.Env = append(os.Environ(), asKubectl+"=1", "KUBECONFIG="+config, "HOME="+home, "TZ=UTC", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// run runs kubectl to its end.
func (s *server) run(args ...string) (stdout, stderr string, err error) {
	s.t.Helper()
	cmd := s.kubectl(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// must is run for a command that succeeds.
func (s *server) must(args ...string) string {
	s.t.Helper()
	stdout, stderr, err := s.run(args...)
	if err != nil {
		s.t.Fatalf("kubectl %s: %v\n%s%s", strings.Join(args, " "), err, stdout, stderr)
	}
	return stdout
}

func pod(namespace, name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "main", Image: "app:1"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodPending},
	}
}
