package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

const (
	// bookmarkEvery is how often a quiet watch hears where it stands; kube-apiserver's figure.
	bookmarkEvery = time.Minute
	// minWatch is how long a watch lasts at least if the client does not say, at most twice that: spread out, watches do not
	// all come back at once.
	minWatch = 30 * time.Minute
	// writeWait is how long a client may take to read what was sent, before it counts as gone.
	writeWait = 30 * time.Second
	// watchBatch is how many changes are written between flushes.
	watchBatch = 128
)

var (
	errWatchOver   = errors.New("the time of the watch is over")
	errBookmarkDue = errors.New("a bookmark is due")
)

// watcher is one watch. Its filter decides what an event is: to whom an object did not match before it is ADDED, to whom
// it does not match any more it is DELETED.
type watcher struct {
	api *API
	encoder
	filter
	opts *metainternal.ListOptions

	out   http.ResponseWriter
	buf   bytes.Buffer
	due   *state.Snapshot // of the next bookmark
	sent  state.Version   // of the newest event
	limit time.Duration
}

func (a *API) watch(ctx context.Context, w http.ResponseWriter, s watcher) error {
	s.out = w
	s.limit = minWatch + rand.N(minWatch)
	if s.opts.TimeoutSeconds != nil && *s.opts.TimeoutSeconds > 0 {
		s.limit = min(time.Duration(*s.opts.TimeoutSeconds)*time.Second, 2*minWatch)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, errWatchOver)
	defer cancel()
	after, err := s.begin(ctx)
	if err != nil {
		return err
	}
	err = s.follow(ctx, state.ChangesOf(a.Store, s.kind, after))
	if errors.Is(err, errWatchOver) || errors.Is(err, errEnding) || ctx.Err() != nil {
		return nil
	}
	return err
}

// begin answers with what exists, if the client wants that, and returns the version after which changes follow.
func (s *watcher) begin(ctx context.Context) (state.Version, error) {
	rv := s.opts.ResourceVersion
	initial := rv == "" || rv == "0"
	if s.opts.SendInitialEvents != nil {
		initial = *s.opts.SendInitialEvents
	}
	view, err := s.api.viewAt(ctx, rv)
	if err != nil {
		return 0, err
	}
	after := view.Version
	if !initial && rv != "" && rv != "0" {
		after, _ = parseVersion(rv) // viewAt has parsed it
		if err := s.has(ctx, after); err != nil {
			return 0, err
		}
	}
	s.due = view
	s.out.Header().Set("Content-Type", "application/json")
	s.out.Header().Set("Cache-Control", "no-cache, private")
	s.out.WriteHeader(http.StatusOK)
	if !initial {
		return after, s.flush()
	}
	for obj := range state.ListKind(view, s.kind, s.namespace) {
		if obj = visible(s.kind, obj); !s.matches(obj) {
			continue
		}
		if err := s.send(watch.Added, obj); err != nil {
			return 0, err
		}
	}
	if s.opts.SendInitialEvents != nil && s.opts.AllowWatchBookmarks {
		if err := s.mark(view.Version, map[string]string{metav1.InitialEventsAnnotationKey: "true"}); err != nil {
			return 0, err
		}
	}
	return after, s.flush()
}

// has is an error unless all changes after a version are still to be had.
func (s *watcher) has(ctx context.Context, after state.Version) error {
	now, stop := context.WithCancel(ctx)
	stop() // asked without waiting, a feed says at once
	_, err := state.ChangesOf(s.api.Store, s.kind, after).Next(now, make([]state.Change[object.Object], 1))
	if errors.Is(err, state.ErrCompacted) {
		return tooOld(after)
	}
	return nil
}

func tooOld(after state.Version) error {
	return expired(fmt.Sprintf("too old resource version: %d", after))
}

// follow sends changes until ctx ends or the client is gone.
func (s *watcher) follow(ctx context.Context, feed *state.Feed[object.Object]) error {
	changes := make([]state.Change[object.Object], watchBatch)
	for {
		quiet, cancel := context.WithTimeoutCause(ctx, bookmarkEvery, errBookmarkDue)
		err := s.copy(quiet, feed, changes)
		cancel()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errBookmarkDue):
			err = s.periodic()
		case errors.Is(err, state.ErrCompacted):
			return s.fail(tooOld(s.due.Version))
		}
		if err != nil {
			return err
		}
	}
}

// copy sends changes until a read of the feed fails, which it does when ctx ends.
func (s *watcher) copy(ctx context.Context, feed *state.Feed[object.Object], changes []state.Change[object.Object]) error {
	for {
		n, err := feed.Next(ctx, changes)
		if err != nil {
			return err
		}
		for _, c := range changes[:n] {
			if err := s.change(c); err != nil {
				return err
			}
		}
		clear(changes[:n])
		if err := s.flush(); err != nil {
			return err
		}
	}
}

// periodic sends a bookmark of the state as it was one interval ago: everything up to there has certainly been sent, while
// the newest state may be published a moment before its changes are in the feed.
func (s *watcher) periodic() error {
	past := s.due
	s.due = s.api.Store.View()
	if !s.opts.AllowWatchBookmarks {
		return nil
	}
	if err := s.mark(max(past.Version, s.sent), nil); err != nil {
		return err
	}
	return s.flush()
}

func (s *watcher) change(c state.Change[object.Object]) error {
	s.sent = c.Version
	was, is := s.sees(c.Old), s.sees(c.New)
	switch {
	case was == nil && is == nil:
		return nil
	case was == nil:
		return s.send(watch.Added, is)
	case is != nil:
		return s.send(watch.Modified, is)
	}
	// The last known object, at the version at which it ceased to be or to match.
	gone := was.DeepCopyObject().(object.Object)
	gone.SetResourceVersion(formatVersion(c.Version))
	return s.send(watch.Deleted, gone)
}

// sees is obj as this watch may see it, nil if it does not match.
func (s *watcher) sees(obj object.Object) object.Object {
	if obj == nil {
		return nil
	}
	if obj = visible(s.kind, obj); !s.matches(obj) {
		return nil
	}
	return obj
}

func (s *watcher) send(what watch.EventType, obj object.Object) error {
	body, err := s.one(obj)
	if err != nil {
		return err
	}
	s.event(what, body)
	if s.buf.Len() > 1<<20 {
		return s.flush()
	}
	return nil
}

func (s *watcher) mark(v state.Version, annotations map[string]string) error {
	body, err := s.bookmark(formatVersion(v), annotations)
	if err != nil {
		return err
	}
	s.event(watch.Bookmark, body)
	return nil
}

// fail ends a watch that has begun: an ERROR event carries the Status.
func (s *watcher) fail(reason error) error {
	body, err := json.Marshal(statusOf(reason))
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	s.event(watch.Error, body)
	return s.flush()
}

func (s *watcher) event(what watch.EventType, body []byte) {
	fmt.Fprintf(&s.buf, `{"type":%q,"object":%s}`+"\n", what, body)
}

// flush sends what was gathered. A client that does not read is dropped rather than waited for.
func (s *watcher) flush() error {
	control := http.NewResponseController(s.out)
	_ = control.SetWriteDeadline(time.Now().Add(writeWait)) // not every ResponseWriter has one
	defer control.SetWriteDeadline(time.Time{})             // HTTP/2 would end a quiet stream when it passes
	if _, err := s.buf.WriteTo(s.out); err != nil {
		return fmt.Errorf("write to watcher: %w", err)
	}
	if err := control.Flush(); err != nil {
		return fmt.Errorf("write to watcher: %w", err)
	}
	return nil
}
