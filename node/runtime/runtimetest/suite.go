package runtimetest

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// Subject is a runtime under test and what the suite needs to act behind its back.
type Subject struct {
	Runtime runtime.Runtime
	Image   string                 // is present, and has a shell, echo and sleep
	Reopen  func() runtime.Runtime // a second runtime for the same engine and cluster that knows nothing
	Kill    func(id string)        // SIGKILL to the container's process
	Pause   func(id string)        // freezes the container
	Remove  func(id string)        // kills and removes the container
	EndPod  func(sandboxID string) // SIGKILL to the sandbox
	Timeout time.Duration          // how long one step may take at most
	PodCIDR netip.Prefix           // what Configure gets
}

// Run checks that a runtime keeps the contract of runtime.Runtime. Every check uses Pods of its own, so all share one subject.
func Run(t *testing.T, s Subject) {
	if err := s.Runtime.Configure(t.Context(), runtime.Network{PodCIDR: s.PodCIDR}); err != nil {
		t.Fatal(err)
	}
	for name, check := range map[string]func(*suite){
		"a Pod is listed as it was given":                listed,
		"sandboxes have addresses of their own":          addresses,
		"EnsureSandbox is idempotent":                    sandboxOnce,
		"StartContainer is idempotent":                   startOnce,
		"a new runtime finds everything":                 reopened,
		"an exit code is reported":                       exitCode,
		"attempts are listed oldest first":               attempts,
		"a container that cannot be started says why":    startFailure,
		"stopping ends a container, and is idempotent":   stop,
		"a container that ignores the signal is killed":  stopStubborn,
		"removing a container is idempotent":             removeContainer,
		"removing a Pod leaves nothing":                  removePod,
		"a container killed behind its back is noticed":  killed,
		"a container removed behind its back is noticed": removed,
		"a paused container is noticed and resumed":      paused,
		"a dead sandbox is replaced":                     sandboxReplaced,
		"commands run in containers":                     execs,
		"a command that hangs ends with its context":     execDeadline,
		"output can be read":                             logs,
		"following output ends with the container":       logsFollow,
		"pull policies":                                  images,
		"Info tells of the host":                         info,
		"Events end with their context":                  eventsEnd,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeoutCause(t.Context(), s.Timeout, fmt.Errorf("the check took over %s", s.Timeout))
			t.Cleanup(cancel)
			check(&suite{T: t, Subject: s, ctx: ctx})
		})
	}
}

// suite is one running check.
type suite struct {
	*testing.T
	Subject
	ctx context.Context // of this check: bounds every call
}

// pod returns a Pod of one container that runs command, and sees to its removal.
func (s *suite) pod(name string, command ...string) *corev1.Pod {
	s.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "suite", UID: types.UID("uid-" + name), Labels: map[string]string{"app": name},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "owner", UID: "uid-owner"}},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: s.Image, Command: command}}},
	}
	s.Cleanup(func() {
		if err := s.Runtime.RemovePod(context.WithoutCancel(s.ctx), p.UID); err != nil {
			s.Errorf("remove pod: %v", err)
		}
	})
	return p
}

// run starts attempt 0 of the Pod's container and returns it as listed.
func (s *suite) run(p *corev1.Pod) runtime.Container {
	s.Helper()
	s.start(p, 0)
	return s.newest(p.UID)
}

func (s *suite) start(p *corev1.Pod, attempt int) {
	s.Helper()
	if err := s.tryStart(p, attempt); err != nil {
		s.Fatal(err)
	}
}

func (s *suite) tryStart(p *corev1.Pod, attempt int) error {
	s.Helper()
	sandbox := s.sandbox(p)
	c := &p.Spec.Containers[0]
	id, err := s.Runtime.EnsureImage(s.ctx, c.Image, corev1.PullIfNotPresent)
	if err != nil {
		s.Fatal(err)
	}
	return s.Runtime.StartContainer(s.ctx, sandbox, runtime.ContainerConfig{
		Pod: p, Container: c, Attempt: attempt, ImageID: id, Command: c.Command, Args: c.Args,
	})
}

func (s *suite) sandbox(p *corev1.Pod) runtime.Sandbox {
	s.Helper()
	sandbox, err := s.Runtime.EnsureSandbox(s.ctx, p)
	if err != nil {
		s.Fatal(err)
	}
	return sandbox
}

// look returns the Pod as listed by rt.
func (s *suite) look(rt runtime.Runtime, uid types.UID) (runtime.Pod, bool) {
	s.Helper()
	pods, err := rt.Pods(s.ctx)
	if err != nil {
		s.Fatal(err)
	}
	for _, p := range pods {
		if p.Pod.UID == uid {
			return p, true
		}
	}
	return runtime.Pod{}, false
}

func (s *suite) newest(uid types.UID) runtime.Container {
	s.Helper()
	p, _ := s.look(s.Runtime, uid)
	if len(p.Containers) == 0 {
		s.Fatalf("pod %s has no containers", uid)
	}
	return p.Containers[len(p.Containers)-1]
}

// eventually follows Events until the Pod as listed satisfies reached: the events must suffice to notice. act runs once nothing is missed any more.
func (s *suite) eventually(uid types.UID, act func(), reached func(runtime.Pod) bool) runtime.Pod {
	s.Helper()
	for event, err := range s.Runtime.Events(s.ctx) {
		if err != nil {
			s.Fatalf("events: %v", err)
		}
		if event.UID == "" {
			act()
		} else if event.UID != uid {
			continue
		}
		if p, _ := s.look(s.Runtime, uid); reached(p) {
			return p
		}
	}
	p, _ := s.look(s.Reopen(), uid)
	s.Fatalf("no event came after which the pod was as expected; last: %+v", p)
	return runtime.Pod{}
}

// newestIs is reached once the newest attempt is in this state.
func newestIs(state runtime.State) func(runtime.Pod) bool {
	return func(p runtime.Pod) bool {
		return len(p.Containers) > 0 && p.Containers[len(p.Containers)-1].State == state
	}
}

func nothing() {}
