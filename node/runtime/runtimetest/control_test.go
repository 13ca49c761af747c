package runtimetest

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// started returns a Fake with one running container.
func started(t *testing.T, b Behaviour) (*Fake, runtime.Container) {
	t.Helper()
	f := NewFake("app:1")
	f.Behave(func(runtime.ContainerConfig) Behaviour { return b })
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "uid"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main"}}}}
	if err := f.Configure(t.Context(), runtime.Network{PodCIDR: netip.MustParsePrefix("10.88.0.0/24")}); err != nil {
		t.Fatal(err)
	}
	s, err := f.EnsureSandbox(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.StartContainer(t.Context(), s, runtime.ContainerConfig{Pod: p, Container: &p.Spec.Containers[0]}); err != nil {
		t.Fatal(err)
	}
	return f, only(t, f)
}

func only(t *testing.T, f *Fake) runtime.Container {
	t.Helper()
	pods, err := f.Pods(t.Context())
	if err != nil || len(pods) != 1 || len(pods[0].Containers) != 1 {
		t.Fatalf("pods %+v, %v", pods, err)
	}
	return pods[0].Containers[0]
}

func TestContainersEndWhenTheirBehaviourSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, c := started(t, Behaviour{Exits: true, RunFor: time.Hour, ExitCode: 4, OOMKilled: true})
		time.Sleep(time.Hour - time.Second)
		if got := only(t, f); got.State != runtime.Running {
			t.Errorf("before its time: %+v", got)
		}
		time.Sleep(2 * time.Second)
		if got := only(t, f); got.State != runtime.Exited || got.ExitCode != 4 || !got.OOMKilled || got.Finished.Sub(c.Started) != time.Hour {
			t.Errorf("after its time: %+v", got)
		}
	})
}

func TestRebootIsSilent(t *testing.T) {
	f, _ := started(t, Behaviour{})
	lost := errors.New("lost")
	seen := 0
	for event, err := range f.Events(t.Context()) {
		switch {
		case err != nil:
			if !errors.Is(err, lost) {
				t.Errorf("events ended with %v", err)
			}
		case event.UID == "":
			f.Reboot()
			f.BreakEvents(lost)
		default:
			seen++
		}
	}
	if c := only(t, f); seen != 0 || c.State != runtime.Exited {
		t.Errorf("%d events; the container is %s", seen, c.State)
	}
}

func TestInterceptDecidesWhatACallGives(t *testing.T) {
	f, _ := started(t, Behaviour{})
	refused := errors.New("refused")
	f.Intercept(func(_ context.Context, c Call) error {
		if c.Method == "Pods" {
			return refused
		}
		return nil
	})
	if _, err := f.Pods(t.Context()); !errors.Is(err, refused) {
		t.Errorf("error = %v", err)
	}
	if calls := f.Calls(); calls[len(calls)-1].Method != "Pods" || calls[1] != (Call{Method: "EnsureSandbox", UID: "uid"}) {
		t.Errorf("calls %+v", calls)
	}
}
