package runtimetest

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// Behave decides what containers started from now on do. Without it their command is read as a tiny shell: `sleep N`, `exit N`,
// `echo X`, `true`, `false`, `trap …`, alone or in `sh -c "a; b"`. /nonexistent cannot be started; anything else, or no
// command, runs until stopped.
func (f *Fake) Behave(behave func(runtime.ContainerConfig) Behaviour) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.behave = behave
}

// OnExec decides what Exec in a running container gives. Without it the command is read as by Behave.
func (f *Fake) OnExec(onExec func(c runtime.Container, command []string) (exitCode int, output []byte, err error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onExec = onExec
}

// Intercept is run before each call takes effect. What it returns the call returns; blocking in it makes the call slow, or
// hang until ctx ends.
func (f *Fake) Intercept(intercept func(ctx context.Context, c Call) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.intercept = intercept
}

// Calls returns every call so far, in the order they came, refused ones too.
func (f *Fake) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// AddImage puts an image on the node.
func (f *Fake) AddImage(ref string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.images[ref] = true
}

// RemoveImage takes an image off the node.
func (f *Fake) RemoveImage(ref string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.images, ref)
}

// SetRegistry decides how pulls of an image end: nil lets them succeed.
func (f *Fake) SetRegistry(ref string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.registry[ref] = err
}

// Kill ends a container as if its process had exited with this code; 137 is what SIGKILL gives.
func (f *Fake) Kill(id string, exitCode int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, c := f.lookup(id); c != nil {
		f.end(c, exitCode)
	}
}

// Pause freezes a container, as `docker pause` does.
func (f *Fake) Pause(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, c := f.lookup(id); c != nil && c.State == runtime.Running {
		c.State = runtime.Paused
		f.changed(c.uid)
	}
}

// Remove kills a container and removes it without a trace, as `docker rm -f` does.
func (f *Fake) Remove(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pod, c := f.lookup(id)
	if c == nil {
		return
	}
	f.end(c, exitKilled)
	f.drop(pod, c)
}

// KillSandbox ends a Pod's sandbox. Its containers run on.
func (f *Fake) KillSandbox(uid types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if pod := f.pods[uid]; pod != nil && pod.sandbox.Running {
		pod.sandbox.Running = false
		f.changed(uid)
	}
}

// RemoveSandbox kills and removes a Pod's sandbox, as `docker rm -f` does. Its containers run on.
func (f *Fake) RemoveSandbox(uid types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pod := f.pods[uid]
	if pod == nil {
		return
	}
	delete(f.used, pod.sandbox.IP)
	pod.sandbox = runtime.Sandbox{}
	f.forgetIfEmpty(uid)
	f.changed(uid)
}

// Reboot ends everything that runs, and nothing says so: hosts that lose power send no events.
func (f *Fake) Reboot() {
	f.mu.Lock()
	defer f.mu.Unlock()
	listeners := f.listeners
	f.listeners = map[*listener]bool{}
	for _, pod := range f.pods {
		pod.sandbox.Running = false
		for _, c := range pod.containers {
			f.end(c, exitKilled)
		}
	}
	f.listeners = listeners
}

// BreakEvents ends every running Events sequence with err, as a restart of the engine does.
func (f *Fake) BreakEvents(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for l := range f.listeners {
		l.fail(err)
	}
}

// changed tells every listener. The caller holds mu.
func (f *Fake) changed(uid types.UID) {
	for l := range f.listeners {
		l.add(uid)
	}
}

// LeaveFiles has a Pod of which nothing is left but files, as an agent leaves it that is killed while it removes one.
func (f *Fake) LeaveFiles(uid types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pods[uid] = &fakePod{pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}}}
}
