package runtimetest

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

func startOnce(s *suite) {
	p := s.pod("start-once", "sleep", "600")
	first := s.run(p)
	s.start(p, 0)
	got, _ := s.look(s.Runtime, p.UID)
	if len(got.Containers) != 1 || got.Containers[0].ID != first.ID || !got.Containers[0].Started.Equal(first.Started) {
		s.Errorf("a second start of the same attempt gave %+v", got.Containers)
	}
}

func exitCode(s *suite) {
	p := s.pod("exit-code", "sh", "-c", "exit 3")
	s.start(p, 0)
	c := s.eventually(p.UID, nothing, newestIs(runtime.Exited)).Containers[0]
	if c.ExitCode != 3 || c.Finished.Before(c.Started) || c.Started.IsZero() {
		s.Errorf("exit code %d, started %s, finished %s", c.ExitCode, c.Started, c.Finished)
	}
}

func attempts(s *suite) {
	p := s.pod("attempts", "sh", "-c", "exit 0")
	for attempt := range 3 {
		s.start(p, attempt)
		s.eventually(p.UID, nothing, newestIs(runtime.Exited))
	}
	got, _ := s.look(s.Runtime, p.UID)
	for i, c := range got.Containers {
		if c.Attempt != i {
			s.Errorf("position %d holds attempt %d", i, c.Attempt)
		}
	}
	if len(got.Containers) != 3 {
		s.Errorf("%d attempts are listed, want 3", len(got.Containers))
	}
}

func startFailure(s *suite) {
	p := s.pod("start-failure", "/nonexistent/program")
	if err := s.tryStart(p, 0); err == nil || !strings.Contains(err.Error(), "no such file") {
		s.Errorf("error = %v, want one that says why", err)
	}
	c := s.newest(p.UID)
	if c.State != runtime.Exited || !strings.Contains(c.Message, "no such file") || c.ExitCode == 0 {
		s.Errorf("listed as %+v", c)
	}
}

func stop(s *suite) {
	p := s.pod("stop", "sleep", "600")
	c := s.run(p)
	for range 2 {
		if err := s.Runtime.StopContainer(s.ctx, c.ID, 0); err != nil {
			s.Fatal(err)
		}
	}
	if c := s.newest(p.UID); c.State != runtime.Exited {
		s.Errorf("after StopContainer returned it is %s", c.State)
	}
	if err := s.Runtime.StopContainer(s.ctx, "0123456789ab", time.Second); err != nil {
		s.Errorf("stopping a container that does not exist: %v", err)
	}
}

func stopStubborn(s *suite) {
	p := s.pod("stop-stubborn", "sh", "-c", `trap "" TERM; sleep 600`)
	c := s.run(p)
	before := time.Now()
	if err := s.Runtime.StopContainer(s.ctx, c.ID, time.Second); err != nil {
		s.Fatal(err)
	}
	if took := time.Since(before); took < time.Second {
		s.Errorf("it was killed after %s, before its grace period was over", took)
	}
	if c := s.newest(p.UID); c.State != runtime.Exited || c.ExitCode != 137 {
		s.Errorf("it is %s with exit code %d, want 137", c.State, c.ExitCode)
	}
}

func removeContainer(s *suite) {
	p := s.pod("remove-container", "sleep", "600")
	c := s.run(p)
	if err := s.Runtime.RemoveContainer(s.ctx, c.ID); err == nil {
		s.Error("a running container was removed")
	}
	if err := s.Runtime.StopContainer(s.ctx, c.ID, 0); err != nil {
		s.Fatal(err)
	}
	for range 2 {
		if err := s.Runtime.RemoveContainer(s.ctx, c.ID); err != nil {
			s.Fatal(err)
		}
	}
	if got, found := s.look(s.Runtime, p.UID); !found || len(got.Containers) != 0 {
		s.Errorf("after removal: %+v", got)
	}
}

func killed(s *suite) {
	p := s.pod("killed", "sleep", "600")
	c := s.run(p)
	got := s.eventually(p.UID, func() { s.Kill(c.ID) }, newestIs(runtime.Exited))
	if c := got.Containers[0]; c.ExitCode != 137 || c.OOMKilled {
		s.Errorf("exit code %d, OOM killed %v", c.ExitCode, c.OOMKilled)
	}
}

func removed(s *suite) {
	p := s.pod("removed", "sleep", "600")
	c := s.run(p)
	s.eventually(p.UID, func() { s.Remove(c.ID) }, func(p runtime.Pod) bool { return len(p.Containers) == 0 })
}

func paused(s *suite) {
	p := s.pod("paused", "sleep", "600")
	c := s.run(p)
	s.eventually(p.UID, func() { s.Pause(c.ID) }, newestIs(runtime.Paused))
	for range 2 {
		if err := s.Runtime.UnpauseContainer(s.ctx, c.ID); err != nil {
			s.Fatal(err)
		}
	}
	if c := s.newest(p.UID); c.State != runtime.Running {
		s.Errorf("after UnpauseContainer it is %s", c.State)
	}
}

func execs(s *suite) {
	c := s.run(s.pod("execs", "sleep", "600"))
	code, output, err := s.Runtime.Exec(s.ctx, c.ID, []string{"sh", "-c", "echo hello; exit 7"})
	if err != nil || code != 7 || string(output) != "hello\n" {
		s.Errorf("exit code %d, output %q, error %v", code, output, err)
	}
	if _, _, err := s.Runtime.Exec(s.ctx, "0123456789ab", []string{"true"}); !errors.Is(err, runtime.ErrNotFound) {
		s.Errorf("in a container that does not exist: %v, want ErrNotFound", err)
	}
}

func logs(s *suite) {
	p := s.pod("logs", "sh", "-c", "echo one; echo two; echo three")
	s.start(p, 0)
	c := s.eventually(p.UID, nothing, newestIs(runtime.Exited)).Containers[0]
	for name, tc := range map[string]struct {
		opts runtime.LogOptions
		want string
	}{
		"all":   {want: "one\ntwo\nthree\n"},
		"tail":  {opts: runtime.LogOptions{Tail: 2}, want: "two\nthree\n"},
		"since": {opts: runtime.LogOptions{Since: c.Finished.Add(time.Hour)}, want: ""},
	} {
		if got := s.output(s.ctx, c.ID, tc.opts); got != tc.want {
			s.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
	line, _, _ := strings.Cut(s.output(s.ctx, c.ID, runtime.LogOptions{Timestamps: true}), " ")
	if _, err := time.Parse(time.RFC3339Nano, line); err != nil {
		s.Errorf("line does not start with a time: %v", err)
	}
	if _, err := s.Runtime.Logs(s.ctx, "0123456789ab", runtime.LogOptions{}); !errors.Is(err, runtime.ErrNotFound) {
		s.Errorf("of a container that does not exist: %v, want ErrNotFound", err)
	}
}

func (s *suite) output(ctx context.Context, id string, opts runtime.LogOptions) string {
	s.Helper()
	stream, err := s.Runtime.Logs(ctx, id, opts)
	if err != nil {
		s.Fatal(err)
	}
	defer stream.Close()
	out, err := io.ReadAll(stream)
	if err != nil {
		s.Fatal(err)
	}
	return string(out)
}

func logsFollow(s *suite) {
	c := s.run(s.pod("logs-follow", "sh", "-c", "echo first; sleep 1; exit 0"))
	if got := s.output(s.ctx, c.ID, runtime.LogOptions{Follow: true}); got != "first\n" {
		s.Errorf("got %q", got)
	}
	if c := s.newest("uid-logs-follow"); c.State != runtime.Exited {
		s.Errorf("the stream ended while the container was %s", c.State)
	}
}

func images(s *suite) {
	if id, err := s.Runtime.EnsureImage(s.ctx, s.Image, corev1.PullNever); err != nil || id == "" {
		s.Errorf("a present image under Never: id %q, error %v", id, err)
	}
	if _, err := s.Runtime.EnsureImage(s.ctx, "127.0.0.1:1/absent:1", corev1.PullNever); !errors.Is(err, runtime.ErrImageNeverPull) {
		s.Errorf("an absent image under Never: %v, want ErrImageNeverPull", err)
	}
	var failed *runtime.ImageError
	if _, err := s.Runtime.EnsureImage(s.ctx, "127.0.0.1:1/absent:1", corev1.PullIfNotPresent); !errors.As(err, &failed) {
		s.Errorf("an absent image: %v, want an ImageError", err)
	}
}
