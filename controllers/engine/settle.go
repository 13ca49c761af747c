package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mainstay-cluster/mainstay/state"
)

// settleRounds bounds Settle: 500 Pods a round reach half a million, and two controllers that undo each other are found.
const settleRounds = 1000

// Settle runs the controllers on every key, then on those that changed, one at a time and in a fixed order, until none has
// anything left to do now. What a controller asks to be called for later than Soon is left undone. The store needs a
// committer. It is for finding out what would happen, on a Fork.
func Settle(ctx context.Context, store *state.Store, controllers []Controller, now time.Time) error {
	all := make([]*settler, len(controllers))
	for i, c := range controllers {
		all[i] = newSettler(store, c)
	}
	for range settleRounds {
		busy := false
		for _, s := range all {
			did, err := s.round(ctx, now)
			if err != nil {
				return err
			}
			busy = busy || did
		}
		if !busy {
			return nil
		}
	}
	return fmt.Errorf("controllers do not come to rest in %d rounds; still busy: %s", settleRounds, strings.Join(busyNames(all), ", "))
}

func busyNames(all []*settler) []string {
	var names []string
	for _, s := range all {
		if len(s.pending) > 0 || s.drain() != nil || len(s.pending) > 0 {
			names = append(names, s.Name)
		}
	}
	return names
}

// settler is one controller under Settle.
type settler struct {
	Controller
	store   *state.Store
	next    []func(ctx context.Context, add func(state.Key)) error
	pending map[state.Key]bool
}

func newSettler(store *state.Store, c Controller) *settler {
	s := &settler{Controller: c, store: store}
	s.relist()
	return s
}

func (s *settler) relist() {
	snap := s.store.View()
	s.next = nil
	s.pending = map[state.Key]bool{}
	for _, src := range s.Sources {
		s.next = append(s.next, src.follow(s.store, snap.Version))
	}
	s.list(snap, s.add)
}

func (s *settler) add(key state.Key) { s.pending[key] = true }

// drain adds the keys of all changes so far, without waiting for more.
func (s *settler) drain() error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, next := range s.next {
		err := error(nil)
		for err == nil {
			err = next(ended, s.add)
		}
		if errors.Is(err, state.ErrCompacted) {
			s.relist()
			return nil
		}
		if !errors.Is(err, context.Canceled) {
			return fmt.Errorf("follow changes for %s: %w", s.Name, err)
		}
	}
	return nil
}

// round reconciles what is pending in the order of the keys and says whether there was anything.
func (s *settler) round(ctx context.Context, now time.Time) (bool, error) {
	if err := s.drain(); err != nil {
		return false, err
	}
	keys := make([]state.Key, 0, len(s.pending))
	for key := range s.pending {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b state.Key) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	clear(s.pending)
	for _, key := range keys {
		var again time.Duration
		if _, err := s.store.Update(ctx, func(tx *state.Txn) (err error) {
			again, err = s.Reconcile(tx, key, now)
			return err
		}); err != nil {
			return false, fmt.Errorf("%s %s: %w", s.Name, key, err)
		}
		if again > 0 && again <= Soon {
			s.add(key)
		}
	}
	return len(keys) > 0, nil
}
