package runtimetest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

func listed(s *suite) {
	p := s.pod("listed", "sleep", "600")
	p.Status.Phase = corev1.PodRunning
	p.ResourceVersion = "42"
	before := time.Now().Add(-time.Second)
	c := s.run(p)

	got, _ := s.look(s.Runtime, p.UID)
	want := p.DeepCopy()
	want.Status, want.ResourceVersion = corev1.PodStatus{}, ""
	if diff := cmp.Diff(want, got.Pod); diff != "" {
		s.Errorf("the Pod is not as given, but for status and version (-want +got):\n%s", diff)
	}
	if c.Name != "main" || c.Attempt != 0 || c.SpecHash != runtime.ContainerHash(&p.Spec.Containers[0]) || c.Image != s.Image || c.ImageID == "" {
		s.Errorf("container %+v", c)
	}
	if c.State != runtime.Running || c.Created.Before(before) || c.Started.Before(c.Created) {
		s.Errorf("state %s, created %s, started %s", c.State, c.Created, c.Started)
	}
}

func addresses(s *suite) {
	first, second := s.sandbox(s.pod("addresses-1")), s.sandbox(s.pod("addresses-2"))
	if !s.PodCIDR.Contains(first.IP) || !s.PodCIDR.Contains(second.IP) || first.IP == second.IP {
		s.Errorf("addresses %s and %s, want two of %s", first.IP, second.IP, s.PodCIDR)
	}
}

func sandboxOnce(s *suite) {
	p := s.pod("sandbox-once")
	sandboxes := make([]runtime.Sandbox, 4)
	var all sync.WaitGroup
	for i := range sandboxes {
		all.Go(func() {
			var err error
			if sandboxes[i], err = s.Runtime.EnsureSandbox(s.ctx, p); err != nil {
				s.Error(err)
			}
		})
	}
	all.Wait()
	listed, _ := s.look(s.Runtime, p.UID)
	for _, got := range append(sandboxes, listed.Sandbox) {
		if got.ID != sandboxes[0].ID || got.IP != sandboxes[0].IP || !got.Running || got.UID != p.UID || !got.Created.Equal(sandboxes[0].Created) {
			s.Errorf("sandbox %+v, want %+v", got, sandboxes[0])
		}
	}
}

func reopened(s *suite) {
	p := s.pod("reopened", "sleep", "600")
	s.run(p)
	want, _ := s.look(s.Runtime, p.UID)
	fresh := s.Reopen()
	got, _ := s.look(fresh, p.UID)
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b runtime.Sandbox) bool { return a == b })); diff != "" {
		s.Errorf("a runtime that knows nothing sees (-old +new):\n%s", diff)
	}
	if err := fresh.Configure(s.ctx, runtime.Network{PodCIDR: s.PodCIDR}); err != nil {
		s.Fatal(err)
	}
	sandbox, err := fresh.EnsureSandbox(s.ctx, p)
	if err != nil || sandbox != want.Sandbox {
		s.Errorf("it takes the sandbox %+v to be %+v (%v)", want.Sandbox, sandbox, err)
	}
}

func removePod(s *suite) {
	p := s.pod("remove-pod", "sleep", "600")
	s.run(p)
	for range 2 {
		if err := s.Runtime.RemovePod(s.ctx, p.UID); err != nil {
			s.Fatal(err)
		}
	}
	if got, found := s.look(s.Runtime, p.UID); found {
		s.Errorf("still listed: %+v", got)
	}
}

func sandboxReplaced(s *suite) {
	p := s.pod("sandbox-replaced", "sleep", "600")
	old := s.run(p)
	first := s.sandbox(p)
	s.eventually(p.UID, func() { s.EndPod(first.ID) }, func(p runtime.Pod) bool { return !p.Sandbox.Running })
	second := s.sandbox(p)
	if second.ID == first.ID || !second.Running || !second.IP.IsValid() {
		s.Errorf("sandbox %+v after %+v", second, first)
	}
	if c := s.newest(p.UID); c.ID != old.ID || c.State != runtime.Exited {
		s.Errorf("the old sandbox's container is listed as %+v", c)
	}
	s.start(p, 1)
	if c := s.newest(p.UID); c.State != runtime.Running || c.Attempt != 1 {
		s.Errorf("the next attempt is listed as %+v", c)
	}
}

func execDeadline(s *suite) {
	c := s.run(s.pod("exec-deadline", "sleep", "600"))
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	if _, _, err := s.Runtime.Exec(ctx, c.ID, []string{"sleep", "600"}); err == nil {
		s.Error("no error")
	}
}

func info(s *suite) {
	got, err := s.Runtime.Info(s.ctx)
	if err != nil {
		s.Fatal(err)
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if quantity := got.Capacity[name]; quantity.Sign() <= 0 {
			s.Errorf("capacity of %s is %s", name, quantity.String())
		}
	}
	if got.Engine == "" || got.Architecture == "" || got.KernelVersion == "" {
		s.Errorf("info %+v", got)
	}
	var names []string
	for _, image := range got.Images {
		names = append(names, image.Names...)
	}
	if !slices.Contains(names, s.Image) {
		s.Errorf("image %s is not among %v", s.Image, names)
	}
}

func eventsEnd(s *suite) {
	ctx, cancel := context.WithCancel(s.ctx)
	for _, err := range s.Runtime.Events(ctx) {
		if err != nil {
			s.Errorf("an ended context gave the error %v", err)
		}
		cancel()
	}
	cancel()
}
