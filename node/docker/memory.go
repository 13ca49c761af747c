package docker

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// trustFor is how long an inspection of a running container is believed while events are listened to. Without listeners
// it is not believed at all; what has ended does not change any more.
const trustFor = 30 * time.Second

// memory saves the engine questions it has answered before. Everything in it can be lost at any time.
type memory struct {
	mu        sync.Mutex
	listeners int // running Events sequences
	entries   map[string]*entry
	sandboxes map[types.UID]string // nil until the first look
	copies    map[string]bool      // containers that are not what their labels say, as of the look before this one
	copiesNow map[string]bool      // and of this one
}

// entry is one container.
type entry struct {
	generation int // counts events
	starting   int // running calls that start it
	pod        *corev1.Pod
	valid      bool
	listed     runtime.State // what the list said when details were read
	details    runtime.Container
	read       time.Time
}

func newMemory() *memory { return &memory{entries: map[string]*entry{}, copiesNow: map[string]bool{}} }

func (m *memory) entry(id string) *entry {
	e := m.entries[id]
	if e == nil {
		e = &entry{}
		m.entries[id] = e
	}
	return e
}

// pod returns the container's Pod, decoded once: labels never change.
func (m *memory) pod(id string, decode func() *corev1.Pod) *corev1.Pod {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entry(id)
	if e.pod == nil {
		e.pod = decode()
	}
	return e.pod
}

// details returns what was read of the container, if that still holds.
func (m *memory) details(id string, listed runtime.State, now time.Time) (runtime.Container, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[id]
	if e == nil || !e.valid || e.listed != listed {
		return runtime.Container{}, false
	}
	switch e.details.State {
	case runtime.Exited:
		return e.details, true
	case runtime.Created: // a start that fails is no event
		return runtime.Container{}, false
	default:
		return e.details, m.listeners > 0 && now.Sub(e.read) < trustFor
	}
}

// start says that this container is being started until the function returned is called: the engine answers no inspection of
// it meanwhile.
func (m *memory) start(id string) func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entry(id)
	e.starting++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		e.starting--
	}
}

func (m *memory) isStarting(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[id]
	return e != nil && e.starting > 0
}

// generation is to be handed to setDetails: what was read before an event is not kept after it.
func (m *memory) generation(id string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.entry(id).generation
}

func (m *memory) setDetails(id string, generation int, listed runtime.State, details runtime.Container) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.entry(id); e.generation == generation {
		e.valid, e.listed, e.details, e.read = true, listed, details, time.Now()
	}
}

// forget is called for each event.
func (m *memory) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entry(id)
	e.generation++
	e.valid = false
}

// listen counts one more sequence of events until the function returned is called. What was read while nobody listened is dropped.
func (m *memory) listen() func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listeners++
	for _, e := range m.entries {
		e.generation++
		e.valid = false
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.listeners--
	}
}

// copied notes a container that is not what its labels say, and reports whether that is news.
func (m *memory) copied(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	news := !m.copies[id] && !m.copiesNow[id]
	m.copiesNow[id] = true
	return news
}

// keep drops what is not among these ids, but for what changed since.
func (m *memory) keep(ids map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, e := range m.entries {
		if !ids[id] && e.starting == 0 {
			delete(m.entries, id)
		}
	}
	m.copies, m.copiesNow = m.copiesNow, map[string]bool{}
	if m.sandboxes == nil {
		m.sandboxes = map[types.UID]string{}
	}
	for uid, id := range m.sandboxes {
		if !ids[id] {
			delete(m.sandboxes, uid)
		}
	}
}

// sandbox returns the id of the Pod's sandbox, "" if it has none; looked is false while nobody has looked yet.
func (m *memory) sandbox(uid types.UID) (id string, looked bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sandboxes[uid], m.sandboxes != nil
}

// has tells whether the last look showed anything of the Pod.
func (m *memory) has(uid types.UID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.entries {
		if e.pod != nil && e.pod.UID == uid {
			return true
		}
	}
	return false
}

func (m *memory) setSandbox(uid types.UID, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sandboxes == nil || id == "" && m.sandboxes[uid] == "" {
		return
	}
	if id == "" {
		delete(m.sandboxes, uid)
		return
	}
	m.sandboxes[uid] = id
}
