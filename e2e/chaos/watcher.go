package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/watch"

	"github.com/mainstay-cluster/mainstay/e2e/chaos/history"
)

// watched are the kinds that are watched, by name, and where.
var watched = map[string]string{
	"configmaps": partsPath,
	"revisions":  "/apis/mainstay.dev/v1alpha1/revisions",
}

const (
	// maxStay is the longest that a watcher stays with one server before it goes on with another.
	maxStay = 3 * time.Second
	// unlucky is the pause after a server that did not answer.
	unlucky = 50 * time.Millisecond
)

// watcher follows a kind, now from this server and now from that.
type watcher struct {
	*client
	kind    string
	servers []*server
	dice    *rand.Rand
	now     func() time.Duration

	mu       sync.Mutex
	segments []history.Segment // guarded by mu
	moves    int               // from server to server; guarded by mu
}

// watches follows until ctx ends.
func (w *watcher) watches(ctx context.Context) {
	for ctx.Err() == nil {
		err := w.relist(ctx)
		for ctx.Err() == nil && err == nil {
			err = w.stay(ctx, w.servers[w.dice.IntN(len(w.servers))])
		}
		if err != nil && !errors.Is(err, errExpired) {
			sleep(ctx, unlucky)
		}
	}
}

// errExpired is a watch whose versions are no longer known: its client has to list again.
var errExpired = errors.New("too old")

// relist begins a segment.
func (w *watcher) relist(ctx context.Context) error {
	objects, version, err := w.list(ctx, w.servers[w.dice.IntN(len(w.servers))])
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.segments = append(w.segments, history.Segment{Version: version, Objects: objects})
	return nil
}

// list is the resourceVersion of every object, and of the list.
func (w *watcher) list(ctx context.Context, s *server) (objects map[string]uint64, version uint64, err error) {
	var p page
	if err := w.get(ctx, s, watched[w.kind], &p); err != nil {
		return nil, 0, err
	}
	objects = map[string]uint64{}
	for _, item := range p.Items {
		if objects[item.Metadata.Name], err = strconv.ParseUint(item.Metadata.ResourceVersion, 10, 64); err != nil {
			return nil, 0, err
		}
	}
	version, err = strconv.ParseUint(p.Metadata.ResourceVersion, 10, 64)
	return objects, version, err
}

// stay goes on with a server for a while. Only what a client has to list again for is an error.
func (w *watcher) stay(ctx context.Context, s *server) error {
	ctx, cancel := context.WithTimeout(ctx, upTo(w.dice, maxStay))
	defer cancel()
	body, err := w.open(ctx, s, fmt.Sprintf("%s?watch=1&allowWatchBookmarks=true&resourceVersion=%d", watched[w.kind], w.newest()))
	if gone := (*refusal)(nil); errors.As(err, &gone) && gone.code == http.StatusGone {
		return errExpired
	}
	if err != nil {
		sleep(ctx, unlucky) // it is hurt, or has not heard of this version yet
		return nil
	}
	defer body.Close()
	w.mu.Lock()
	w.moves++
	w.mu.Unlock()
	for events := json.NewDecoder(body); ; {
		var e event
		if events.Decode(&e) != nil {
			return nil // the server died, or the time here is over
		}
		if e.Type == string(watch.Error) {
			if e.Object.Code == http.StatusGone {
				return errExpired
			}
			return nil
		}
		if err := w.take(s, e); err != nil {
			return err
		}
	}
}

// event is a line of a watch; of an error, the object has a code.
type event struct {
	Type   string
	Object struct {
		configMap
		Code int
	}
}

func (w *watcher) take(s *server, e event) error {
	version, err := strconv.ParseUint(e.Object.Metadata.ResourceVersion, 10, 64)
	if err != nil {
		return fmt.Errorf("event of %s: %w", s.name, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	last := &w.segments[len(w.segments)-1]
	last.Events = append(last.Events, history.Event{
		At: w.now(), Server: s.name, Type: e.Type, Name: e.Object.Metadata.Name, Version: version, Generation: e.Object.generation(),
	})
	return nil
}

// newest is the version to go on after.
func (w *watcher) newest() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := &w.segments[len(w.segments)-1]
	version := last.Version
	for _, e := range last.Events {
		version = max(version, e.Version)
	}
	return version
}

// settle notes what is there once the watcher was told of it. Nothing changes any more: an error says that it was not told yet,
// or wrongly, which the record shows.
func (w *watcher) settle(s *server) error {
	there, _, err := w.list(context.Background(), s)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.segments) == 0 {
		return fmt.Errorf("%s has not begun", w.name)
	}
	last := &w.segments[len(w.segments)-1]
	last.Settled = there
	told := maps.Clone(last.Objects)
	for _, e := range last.Events {
		switch e.Type {
		case string(watch.Bookmark):
		case string(watch.Deleted):
			delete(told, e.Name)
		default:
			told[e.Name] = e.Version
		}
	}
	if !maps.Equal(told, there) {
		return fmt.Errorf("%s was not told yet what is there", w.name)
	}
	return nil
}
