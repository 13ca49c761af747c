package node

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"time"

	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// server is a control plane as the protocol sees it: it keeps Pods, adopts them at first contact, and forgets removed ones.
type server struct {
	mu            sync.Mutex
	version       uint64
	node          *corev1.Node
	pods          map[types.UID]*corev1.Pod
	config        link.ConfigResponse
	services      []corev1.Service // as the network poll tells
	events        map[string]corev1.Event
	reports       []link.Report
	registrations int
	requests      map[string]int
	history       map[string][]string // Pod name → its phases and waiting reasons, in order
	changed       chan struct{}
	pull          []string                // what the node is to pull
	podCIDR       string                  // what a node that registers is given
	careless      bool                    // answers polls of nodes it does not know
	refuse        func(path string) error // nil: everything is answered; a non-nil error makes the request fail
}

func newServer() *server {
	return &server{pods: map[types.UID]*corev1.Pod{}, events: map[string]corev1.Event{}, requests: map[string]int{}, history: map[string][]string{}, changed: make(chan struct{}), podCIDR: "10.244.1.0/24"}
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
	case link.PathNetwork:
		var req link.NetworkRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			return nil, err
		}
		return s.network(r.Context(), req), nil
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
	answer := link.Registered{PodCIDR: s.podCIDR}
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

// nodeNow is the node as last reported.
func (s *server) nodeNow() *corev1.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node.DeepCopy()
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

// give has the node given another Pod range when it registers next.
func (s *server) give(podCIDR string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.podCIDR = podCIDR
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
