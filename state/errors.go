package state

import (
	"errors"
	"fmt"
)

var (
	// ErrConflict is returned when an object was not as the transaction expected it; nothing was written.
	ErrConflict = errors.New("conflict")
	// ErrNotLeader is returned when this server may not write; nothing was written.
	ErrNotLeader = errors.New("not the leader")
	// ErrUnknown is returned when leadership or the context ended while a write was under way. It was perhaps written; it is
	// safe to repeat, since every operation carries its precondition.
	ErrUnknown = errors.New("outcome unknown")
	// ErrCompacted is returned by a feed whose reader fell behind: list again and start over.
	ErrCompacted = errors.New("changes are no longer kept")
	// ErrTooLarge is returned for a transaction or object over the store's bounds; nothing was written.
	ErrTooLarge = errors.New("too large")
)

// ConflictError says which precondition failed. It is ErrConflict.
type ConflictError struct {
	Kind   string
	Key    Key
	Reason string
}

func (e *ConflictError) Error() string { return fmt.Sprintf("%s %s: %s", e.Kind, e.Key, e.Reason) }

// Is makes errors.Is(err, ErrConflict) hold.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }
