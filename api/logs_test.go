package api_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mainstay-cluster/mainstay/api"
	"github.com/mainstay-cluster/mainstay/state/statetest"
)

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

// agentFunc is an agent without a network.
type agentFunc func(*http.Request) (*http.Response, error)

func (f agentFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func text(code int, body io.Reader) *http.Response {
	return &http.Response{StatusCode: code, Status: fmt.Sprint(code), Body: io.NopCloser(body), Header: http.Header{}}
}

func TestKubectlLogs(t *testing.T) {
	asked := make(chan string, 8)
	out, in := io.Pipe()
	s := serve(t, api.Config{Agents: agentFunc(func(r *http.Request) (*http.Response, error) {
		asked <- r.URL.Host + r.URL.Path + "?" + r.URL.RawQuery
		if r.URL.Query().Get("follow") == "true" {
			return text(200, out), nil
		}
		return text(200, strings.NewReader("hello\n")), nil
	})}, shop()...)
	if got := s.must("logs", "-n", "shop", "web-5d4f8-aaaaa", "--previous", "--tail=3", "--timestamps"); got != "hello\n" {
		t.Errorf("%q", got)
	}
	want := "n1/mainstay/v1/logs/shop/web-5d4f8-aaaaa/main?previous=true&tail=3&timestamps=true&uid=uid-web-5d4f8-aaaaa"
	if got := <-asked; got != want {
		t.Errorf("the agent was asked %s, want %s", got, want)
	}
	if got := s.must("logs", "-n", "shop", "deploy/web", "--since=1h", "--limit-bytes=4"); got != "hell" {
		t.Errorf("%q", got)
	}
	if got := <-asked; !strings.Contains(got, "&uid=") && !strings.Contains(got, "since=20") {
		t.Errorf("the agent was asked %s", got)
	}
	expect := s.follow("logs", "-n", "shop", "web-5d4f8-aaaaa", "-f", "-c", "main")
	for _, line := range []string{"one", "two"} { // each arrives before the next is written
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			t.Fatal(err)
		}
		expect(line)
	}
	_ = in.Close()
}

func TestLogsSayWhyNot(t *testing.T) {
	var answer func() (*http.Response, error)
	two := pod("shop", "two", "n1")
	two.Spec.Containers = append(two.Spec.Containers, corev1.Container{Name: "side"})
	two.Spec.InitContainers = []corev1.Container{{Name: "setup"}}
	stuck := pod("shop", "stuck", "n1")
	stuck.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "no such host"}}}}
	ran := pod("shop", "ran", "n1")
	ran.Status.ContainerStatuses = []corev1.ContainerStatus{*stuck.Status.ContainerStatuses[0].DeepCopy()}
	ran.Status.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1}
	s := serve(t, api.Config{Agents: agentFunc(func(*http.Request) (*http.Response, error) { return answer() })}, append(shop(), two, stuck, ran, pod("shop", "lost", "n7"))...)
	waiting := apierrors.NewBadRequest(`container "main" in pod "web-5d4f8-aaaaa" is waiting to start: ContainerCreating`)
	for name, tc := range map[string]struct {
		answer     func() (*http.Response, error)
		path, want string
		code       int32
	}{
		"no such pod":        {nil, "nope/log", "not found", 404},
		"no such container":  {nil, "two/log?container=x", "container x is not valid for pod two", 400},
		"which container":    {nil, "two/log", "a container name must be specified for pod two, choose one of: [main side] or one of the init containers: [setup]", 400},
		"no such node":       {nil, "lost/log", "node n7 has not said where its agent can be reached", 503},
		"bad tail":           {nil, "two/log?container=main&tailLines=x", "tailLines must be a whole number", 400},
		"two times":          {nil, "two/log?container=main&sinceSeconds=3&sinceTime=2026-01-01T00:00:00Z", "at most one of", 400},
		"never ran":          {nil, "stuck/log", `container "main" in pod "stuck" is waiting to start: ErrImagePull: no such host`, 400},
		"waits, but has run": {func() (*http.Response, error) { return nil, errors.New("the agent was asked") }, "ran/log", "the agent was asked", 500},
		"agent is away":      {func() (*http.Response, error) { return nil, errors.New("connection refused") }, "two/log?container=setup", "connection refused", 500},
		"agent fails":        {func() (*http.Response, error) { return text(502, strings.NewReader("secret page")), nil }, "two/log?container=main", "the agent answered 502", 500},
		"not started yet": {func() (*http.Response, error) {
			return text(400, strings.NewReader(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"BadRequest","message":"`+strings.ReplaceAll(waiting.ErrStatus.Message, `"`, `\"`)+`"}`)), nil
		}, "web-5d4f8-aaaaa/log", "is waiting to start", 400},
	} {
		answer = tc.answer
		status := s.refused("viewer", "GET", "/api/v1/namespaces/shop/pods/"+tc.path, nil)
		if status.Code != tc.code || !strings.Contains(status.Message, tc.want) || strings.Contains(status.Message, "secret page") {
			t.Errorf("%s: %d %q, want %d %q", name, status.Code, status.Message, tc.code, tc.want)
		}
	}
	statetest.Put(t, s.store, pod("shop", "unbound", ""))
	if code, out := s.do("viewer", "GET", "/api/v1/namespaces/shop/pods/unbound/log", nil); code != 200 || out != "" {
		t.Errorf("a Pod without a node: %d %q, want nothing", code, out)
	}
}
