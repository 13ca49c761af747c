package engine

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/state"
)

// feedBatch is how many changes a follower takes at a time.
const feedBatch = 256

// Source names the keys to look at again when objects of one kind change. Make one with Each and its siblings.
type Source struct {
	list   func(r state.Reader, add func(state.Key))
	follow func(s *state.Store, after state.Version) func(ctx context.Context, add func(state.Key)) error
}

// KeysOf adds the keys that depend on o. It is given the newest snapshot to find them in, in which o may no longer be.
type KeysOf[T object.Object] func(r state.Reader, o T, add func(state.Key))

// Each names one key per object, of its old form and its new one; none where keyOf says false.
func Each[T object.Object](keyOf func(T) (state.Key, bool)) Source {
	return EachMany(func(_ state.Reader, o T, add func(state.Key)) {
		if key, ok := keyOf(o); ok {
			add(key)
		}
	})
}

// EachMany names any number of keys per object, of its old form and its new one.
func EachMany[T object.Object](keys KeysOf[T]) Source {
	return Source{
		list: func(r state.Reader, add func(state.Key)) {
			for o := range state.List[T](r, "") {
				keys(r, o, add)
			}
		},
		follow: func(s *state.Store, after state.Version) func(context.Context, func(state.Key)) error {
			return following(s, state.Changes[T](s, after), keys, visitBoth)
		},
	}
}

// EachKind is EachMany for a kind known only at run time.
func EachKind(kind object.Kind, keys KeysOf[object.Object]) Source {
	return Source{
		list: func(r state.Reader, add func(state.Key)) {
			for o := range state.ListKind(r, kind, "") {
				keys(r, o, add)
			}
		},
		follow: func(s *state.Store, after state.Version) func(context.Context, func(state.Key)) error {
			return following(s, state.ChangesOf(s, kind, after), keys, visitBoth)
		},
	}
}

// OnDelete names keys only when an object is deleted, and none at the start: another Source must list what depends on
// objects that were deleted before.
func OnDelete[T object.Object](keys KeysOf[T]) Source {
	return Source{
		list: func(state.Reader, func(state.Key)) {},
		follow: func(s *state.Store, after state.Version) func(context.Context, func(state.Key)) error {
			return following(s, state.Changes[T](s, after), keys, visitDeleted)
		},
	}
}

// Once names one key at the start, for a controller that wakes itself by `again`.
func Once(key state.Key) Source {
	return Source{
		list: func(_ state.Reader, add func(state.Key)) { add(key) },
		follow: func(*state.Store, state.Version) func(context.Context, func(state.Key)) error {
			return func(ctx context.Context, _ func(state.Key)) error {
				<-ctx.Done()
				return context.Cause(ctx)
			}
		},
	}
}

// Self is the object's own key.
func Self[T object.Object](o T) (state.Key, bool) { return state.KeyOf(o), true }

// Owner is the key of the object's controller if that is of this kind.
func Owner[T object.Object](kind string) func(T) (state.Key, bool) {
	return func(o T) (state.Key, bool) {
		ref := metav1.GetControllerOfNoCopy(o)
		if ref == nil || ref.Kind != kind {
			return state.Key{}, false
		}
		return state.Key{Namespace: o.GetNamespace(), Name: ref.Name}, true
	}
}

// To names one key whatever the object: for a controller that looks at everything at once.
func To[T object.Object](key state.Key) func(T) (state.Key, bool) {
	return func(T) (state.Key, bool) { return key, true }
}

// following makes the function that waits for changes and adds the keys of those objects that visit picks.
func following[T object.Object](s *state.Store, feed *state.Feed[T], keys KeysOf[T], visit func(state.Change[T], func(T))) func(context.Context, func(state.Key)) error {
	buf := make([]state.Change[T], feedBatch)
	return func(ctx context.Context, add func(state.Key)) error {
		n, err := feed.Next(ctx, buf)
		if err != nil {
			return err
		}
		snap := s.View()
		for _, c := range buf[:n] {
			visit(c, func(o T) { keys(snap, o, add) })
		}
		clear(buf[:n])
		return nil
	}
}

func visitBoth[T object.Object](c state.Change[T], each func(T)) {
	if present(c.Old) {
		each(c.Old)
	}
	if present(c.New) {
		each(c.New)
	}
}

func visitDeleted[T object.Object](c state.Change[T], each func(T)) {
	if !present(c.New) {
		each(c.Old)
	}
}

// present says whether a change has this form at all.
func present[T object.Object](o T) bool {
	var none T
	return any(o) != any(none)
}
