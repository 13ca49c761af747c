package node

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
)

// server is a control plane as the protocol sees it: it keeps Pods, adopts them at first contact, and forgets removed ones.
type server struct {
	mu            sync.Mutex
	version       uint64
	node          *corev1.Node
	pods          map[types.UID]*corev1.Pod
	config        link.ConfigResponse
	events        map[string]corev1.Event
	reports       []link.Report
	registrations int
	requests      map[string]int
	history       map[string][]string // Pod name → its phases and waiting reasons, in order
	changed       chan struct{}
	pull          []string                // what the node is to pull
	careless      bool                    // answers polls of nodes it does not know
	refuse        func(path string) error // nil: everything is answered; a non-nil error makes the request fail
}

func newServer() *server {
	return &server{pods: map[types.UID]*corev1.Pod{}, events: map[string]corev1.Event{}, requests: map[string]int{}, history: map[string][]string{}, changed: make(chan struct{})}
}

// RoundTrip answers in process; an error of refuse that is no Status is a server that cannot be reached.
func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	refuse := s.refuse
	s.requests[r.URL.Path]++
	s.mu.Unlock()
	var answer any
	var err error
	if refuse != nil {
		err = refuse(r.URL.Path)
	}
	if err == nil {
		answer, err = s.answer(r)
	}
	if r.Context().Err() != nil {
		return nil, r.Context().Err()
	}
	w := httptest.NewRecorder()
	if status, ok := err.(apierrors.APIStatus); ok {
		st := status.Status()
		st.Kind, answer = "Status", nil
		w.WriteHeader(int(st.Code))
		_ = json.NewEncoder(w).Encode(st)
		return w.Result(), nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

func (s *server) answer(r *http.Request) (any, error) {
	switch r.URL.Path {
	case link.PathRegister:
		return decode(r, s.register)
	case link.PathPods:
		var req link.PodsRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			return nil, err
		}
		return s.poll(r.Context(), req)
	case link.PathReport:
		return decode(r, s.report)
	case link.PathConfig:
		return decode(r, func(link.ConfigRequest) any { s.mu.Lock(); defer s.mu.Unlock(); return s.config })
	case link.PathEvents:
		return decode(r, s.record)
	default:
		return nil, fmt.Errorf("no such path: %s", r.URL.Path)
	}
}

func decode[T any](r *http.Request, fn func(T) any) (any, error) {
	var req T
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		return nil, err
	}
	return fn(req), nil
}

func (s *server) register(r link.Registration) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.registrations++
	answer := link.Registered{PodCIDR: "10.244.1.0/24"}
	if s.node == nil {
		for i := range r.Pods {
			s.put(&r.Pods[i])
			answer.Adopted++
		}
	}
	s.node = r.Node
	s.wake()
	return answer
}

func (s *server) poll(ctx context.Context, req link.PodsRequest) (any, error) {
	timeout := time.After(req.Wait.Duration)
	for {
		s.mu.Lock()
		if s.node == nil && !s.careless {
			s.mu.Unlock()
			return nil, apierrors.NewNotFound(link.NodesResource, req.Node)
		}
		resp := link.PodsResponse{Version: s.version, Pull: s.pull}
		for uid, pod := range s.pods {
			if req.Have[uid] != pod.ResourceVersion {
				resp.Pods = append(resp.Pods, *pod.DeepCopy())
			}
		}
		for uid := range req.Have {
			if s.pods[uid] == nil {
				resp.Gone = append(resp.Gone, uid)
			}
		}
		changed := s.changed
		s.mu.Unlock()
		if len(resp.Pods)+len(resp.Gone) > 0 || !slices.Equal(resp.Pull, req.Pull) {
			return resp, nil
		}
		select {
		case <-changed:
		case <-timeout:
			return resp, nil
		case <-ctx.Done():
			return resp, nil
		}
	}
}

func (s *server) report(r link.Report) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports = append(s.reports, r)
	if r.NodeStatus != nil && s.node != nil {
		s.node.Status = *r.NodeStatus
	}
	for uid, st := range r.Statuses {
		if pod := s.pods[uid]; pod != nil {
			pod = pod.DeepCopy()
			pod.Status = st.Status
			s.put(pod)
			s.note(pod.Name, describe(&st.Status))
		}
	}
	for _, ref := range r.Removed {
		delete(s.pods, ref.UID)
		s.bump()
	}
	return struct{}{}
}

func (s *server) note(name, what string) {
	if h := s.history[name]; len(h) == 0 || h[len(h)-1] != what {
		s.history[name] = append(h, what)
	}
}

// describe is a status in a few words: phase, then what each container is.
func describe(st *corev1.PodStatus) string {
	text := string(st.Phase)
	for _, c := range slices.Concat(st.InitContainerStatuses, st.ContainerStatuses) {
		text += " " + c.Name + "#" + strconv.Itoa(int(c.RestartCount)) + ":"
		switch {
		case c.State.Running != nil && c.Ready:
			text += "Ready"
		case c.State.Running != nil:
			text += "Running"
		case c.State.Terminated != nil:
			text += c.State.Terminated.Reason + "(" + strconv.Itoa(int(c.State.Terminated.ExitCode)) + ")"
		case c.State.Waiting != nil:
			text += c.State.Waiting.Reason
		}
	}
	return text
}

func (s *server) record(e link.Events) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, event := range e.Events {
		s.events[event.Name] = event
	}
	return struct{}{}
}

// put stores a Pod under a new version. The caller holds mu.
func (s *server) put(pod *corev1.Pod) {
	s.version++
	pod = pod.DeepCopy()
	pod.ResourceVersion = strconv.FormatUint(s.version, 10)
	s.pods[pod.UID] = pod
	s.wake()
}

func (s *server) bump() {
	s.version++
	s.wake()
}

func (s *server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// bind gives the node a Pod, or another version of one: its status stays.
func (s *server) bind(pods ...*corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pod := range pods {
		pod = pod.DeepCopy()
		if old := s.pods[pod.UID]; old != nil {
			pod.Status = old.Status
		}
		s.put(pod)
	}
}

// delete asks for a Pod's graceful removal.
func (s *server) delete(uid types.UID, grace int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pod := s.pods[uid].DeepCopy()
	now := metav1.Now()
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &now, &grace
	s.put(pod)
}

// drop forgets a Pod, as a server does from whose store it is gone.
func (s *server) drop(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pods, uid)
	s.bump()
}

// forget empties the server, as a new one with an empty store.
func (s *server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pods, s.node, s.version = map[types.UID]*corev1.Pod{}, nil, 0
	s.wake()
}

func (s *server) answerWith(refuse func(path string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = refuse
}

func (s *server) status(uid types.UID) corev1.PodStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pod := s.pods[uid]; pod != nil {
		return *pod.Status.DeepCopy()
	}
	return corev1.PodStatus{}
}

func (s *server) show(uid types.UID) string {
	st := s.status(uid)
	return describe(&st)
}

func (s *server) has(uid types.UID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pods[uid] != nil
}

func (s *server) eventReasons(pod string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var events []corev1.Event
	for _, e := range s.events {
		if e.InvolvedObject.Name == pod {
			events = append(events, e)
		}
	}
	slices.SortFunc(events, func(a, b corev1.Event) int { return a.FirstTimestamp.Compare(b.FirstTimestamp.Time) })
	var reasons []string
	for _, e := range events {
		reasons = append(reasons, e.Reason)
	}
	return reasons
}

// cluster is a server, an engine and an agent in one bubble.
type cluster struct {
	t      *testing.T
	server *server
	engine *runtimetest.Fake
	dir    string
	stop   func()
}

const image1, image2 = "example.com/app:1", "example.com/app:2"

// inCluster runs a test in a bubble with a cluster whose agent has started.
func inCluster(t *testing.T, test func(c *cluster)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, server: newServer(), engine: runtimetest.NewFake(image1, image2), dir: dir}
		c.answering(nil)
		c.start()
		defer func() { c.stop() }()
		test(c)
	})
}

// start starts an agent; stop ends it as kill -9 would, as far as the engine and the server can tell.
func (c *cluster) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{
			Name: "n1", Cluster: "c1", Client: link.NewVia(c.server, "http://server"), Runtime: c.engine, DataDir: c.dir,
			Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
	}()
	c.stop = func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("agent ended with %v", err)
		}
		c.stop = func() {}
	}
	c.settle()
}

func (c *cluster) restart() {
	c.stop()
	c.start()
}

// settle lets everything happen that takes no more than a moment.
func (c *cluster) settle() { c.after(1500 * time.Millisecond) }

// after lets virtual time pass.
func (c *cluster) after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// starts counts how often the engine was asked to start a container.
func (c *cluster) starts(container string) int {
	n := 0
	for _, call := range c.engine.Calls() {
		if call.Method == "StartContainer" && call.Container == container {
			n++
		}
	}
	return n
}

// id is the engine's id of a container's newest attempt.
func (c *cluster) id(uid types.UID, container string) string {
	pods, err := c.engine.Pods(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	id := ""
	for _, p := range pods {
		for _, cont := range p.Containers {
			if p.Pod.UID == uid && cont.Name == container {
				id = cont.ID
			}
		}
	}
	return id
}

// node is the Node as the server has it.
func (c *cluster) node() *corev1.Node {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	return c.server.node.DeepCopy()
}

// polls counts the long polls so far.
func (c *cluster) polls() int {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	return c.server.requests[link.PathPods]
}

func (c *cluster) wants(uid types.UID, want string) {
	c.t.Helper()
	if got := c.server.show(uid); got != want {
		c.t.Errorf("status = %q, want %q", got, want)
	}
}

// aPod is a Pod with one container that runs until stopped, changed as given.
func aPod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), Generation: 1},
		Spec: corev1.PodSpec{
			NodeName: "n1", RestartPolicy: corev1.RestartPolicyAlways,
			Containers: []corev1.Container{{Name: "app", Image: image1, ImagePullPolicy: corev1.PullIfNotPresent}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	for _, fn := range change {
		fn(pod)
	}
	return pod
}

func running(script string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"sh", "-c", script} }
}

func policy(r corev1.RestartPolicy) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.RestartPolicy = r }
}
