package docker

import (
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

func TestMemoryForgetsWhatMayHaveChanged(t *testing.T) {
	now := time.Now()
	running, exited := runtime.Container{State: runtime.Running}, runtime.Container{State: runtime.Exited}
	for name, tc := range map[string]struct {
		do     func(m *memory)
		listed runtime.State
		at     time.Time
		want   bool
	}{
		"running, while nobody listens": {func(m *memory) { m.setDetails("a", 0, runtime.Running, running) }, runtime.Running, now, false},
		"running, while somebody listens": {func(m *memory) {
			m.listen()
			m.setDetails("a", m.generation("a"), runtime.Running, running)
		}, runtime.Running, now, true},
		"running, for too long": {func(m *memory) {
			m.listen()
			m.setDetails("a", m.generation("a"), runtime.Running, running)
		}, runtime.Running, now.Add(trustFor + time.Minute), false},
		"running, when the listener left": {func(m *memory) {
			leave := m.listen()
			m.setDetails("a", m.generation("a"), runtime.Running, running)
			leave()
		}, runtime.Running, now, false},
		"ended":                    {func(m *memory) { m.setDetails("a", 0, runtime.Exited, exited) }, runtime.Exited, now.Add(time.Hour), true},
		"ended, and started again": {func(m *memory) { m.setDetails("a", 0, runtime.Exited, exited) }, runtime.Running, now, false},
		"an event came": {func(m *memory) {
			m.setDetails("a", 0, runtime.Exited, exited)
			m.forget("a")
		}, runtime.Exited, now, false},
		"an event came while it was read": {func(m *memory) {
			generation := m.generation("a")
			m.forget("a")
			m.setDetails("a", generation, runtime.Exited, exited)
		}, runtime.Exited, now, false},
		"created": {func(m *memory) {
			m.listen()
			m.setDetails("a", m.generation("a"), runtime.Created, runtime.Container{State: runtime.Created})
		}, runtime.Created, now, false},
		"gone": {func(m *memory) {
			m.setDetails("a", 0, runtime.Exited, exited)
			m.keep(map[string]bool{"b": true})
		}, runtime.Exited, now, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			tc.do(m)
			if _, got := m.details("a", tc.listed, tc.at); got != tc.want {
				t.Errorf("remembered: %v, want %v", got, tc.want)
			}
		})
	}
}

func TestMemoryKeepsWhatIsBeingStarted(t *testing.T) {
	m := newMemory()
	done := m.start("a")
	m.keep(map[string]bool{}) // a list from before it was created
	if !m.isStarting("a") {
		t.Error("a start that runs was forgotten")
	}
	done()
	if m.isStarting("a") {
		t.Error("a start that ended was not forgotten")
	}
}
