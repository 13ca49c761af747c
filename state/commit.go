package state

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
)

const (
	// maxBatch and maxEntry cut an entry: raft.SuggestedMaxDataSize is 512 KiB, and 256 transactions of common size fill half of it.
	maxBatch = 256
	maxEntry = 512 << 10
	// maxStaged bounds the memory that one huge transaction may take on every server.
	maxStaged = 256 << 20
)

// Log is consensus as the store sees it.
type Log interface {
	// Append returns once the entry is applied here, with what Apply returned. ErrNotLeader: not written. ErrUnknown: perhaps
	// written; safe to repeat, since every operation carries its precondition.
	Append(ctx context.Context, entry []byte) ([]error, error)
}

// queue holds the transactions that wait for the next entry. While one is in flight, others gather: group commit
// without a timer. Each caller waits for its own, so the queue is bounded by the number of callers.
type queue struct {
	mu      sync.Mutex
	leading bool
	opened  chan struct{} // closed while leading
	waiting []*submission
	wake    chan struct{} // capacity 1: a token, not a queue
}

type submission struct {
	txn  []byte
	done chan error // capacity 1
}

func newQueue() queue { return queue{opened: make(chan struct{}), wake: make(chan struct{}, 1)} }

// submit hands one encoded transaction to the committer and waits for its outcome.
func (s *Store) submit(ctx context.Context, txn []byte) error {
	if len(txn) > maxStaged {
		return fmt.Errorf("%w: transaction of %d MiB, at most %d", ErrTooLarge, len(txn)>>20, maxStaged>>20)
	}
	sub := &submission{txn: txn, done: make(chan error, 1)}
	if !s.queue.push(sub) {
		return ErrNotLeader
	}
	select {
	case err := <-sub.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
	}
}

func (q *queue) push(sub *submission) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.leading {
		return false
	}
	q.waiting = append(q.waiting, sub)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// take removes what fits into one entry: at least one, and one alone if it is larger than an entry.
func (q *queue) take() []*submission {
	q.mu.Lock()
	defer q.mu.Unlock()
	size, n := 0, 0
	for n < len(q.waiting) && n < maxBatch {
		size += len(q.waiting[n].txn)
		if n > 0 && size > maxEntry {
			break
		}
		n++
	}
	taken := q.waiting[:n:n]
	if q.waiting = q.waiting[n:]; len(q.waiting) == 0 {
		q.waiting = nil // Lets go of the array, which holds every transaction that went through it.
	}
	return taken
}

func (q *queue) open() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leading = true
	close(q.opened)
}

// close refuses new transactions and fails the waiting ones: nobody waits on a dead term.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.leading = false
	q.opened = make(chan struct{})
	for _, sub := range q.waiting {
		sub.done <- ErrNotLeader
	}
	q.waiting = nil
}

// Leading returns once a Commit takes this server's writes.
func (s *Store) Leading(ctx context.Context) error {
	s.queue.mu.Lock()
	opened := s.queue.opened
	s.queue.mu.Unlock()
	select {
	case <-opened:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Leads says whether a Commit takes this server's writes now.
func (s *Store) Leads() bool {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return s.queue.leading
}

// QueueLen is the number of transactions that wait for the next entry.
func (s *Store) QueueLen() int {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return len(s.queue.waiting)
}

// Commit writes what Update collects to log, until ctx ends or log fails; only then may this server write. There is one
// Commit at a time, and one entry in flight: 256 transactions share it, so a second one would only cost order.
func (s *Store) Commit(ctx context.Context, log Log) error {
	// The first entry of a term drops the parts that an earlier leader staged and never flipped.
	if _, err := log.Append(ctx, sealEntry(typeTerm, nil)); err != nil {
		return fmt.Errorf("begin term: %w", err)
	}
	s.queue.open()
	defer s.queue.close()
	for {
		batch := s.queue.take()
		if len(batch) == 0 {
			select {
			case <-s.queue.wake:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err := s.write(ctx, log, batch); err != nil {
			return fmt.Errorf("append to the log: %w", err)
		}
	}
}

// write appends one batch and tells each caller what became of its transaction.
func (s *Store) write(ctx context.Context, log Log, batch []*submission) error {
	var errs []error
	var err error
	if len(batch) == 1 && len(batch[0].txn) > maxEntry {
		errs, err = s.stage(ctx, log, batch[0].txn)
	} else {
		txns := make([][]byte, len(batch))
		for i, sub := range batch {
			txns[i] = sub.txn
		}
		errs, err = log.Append(ctx, encodeBatch(txns))
	}
	if err == nil && len(errs) != len(batch) {
		err = fmt.Errorf("%w: %d results for %d transactions", ErrUnknown, len(errs), len(batch))
	}
	for i, sub := range batch {
		if err != nil {
			sub.done <- termError(err)
		} else {
			sub.done <- errs[i]
		}
	}
	return err
}

// stage appends a transaction larger than an entry: parts that change nothing, then one flip that does all of it or nothing.
func (s *Store) stage(ctx context.Context, log Log, txn []byte) ([]error, error) {
	id := s.View().Index + 1 // Unique within the log: at least one entry follows before the next transaction is staged.
	var results []error
	for entry := range stagedEntries(id, txn, maxEntry) {
		var err error
		if results, err = log.Append(ctx, entry); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// stagedEntries cuts a transaction into parts of at most size bytes, and ends with their flip.
func stagedEntries(id uint64, txn []byte, size int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		count := uint64(0)
		for piece := range slices.Chunk(txn, size) {
			body := binary.AppendUvarint(binary.AppendUvarint(make([]byte, 0, len(piece)+3*binary.MaxVarintLen64), id), count)
			body = append(binary.AppendUvarint(body, uint64(len(piece))), piece...)
			if !yield(sealEntry(typePart, body)) {
				return
			}
			count++
		}
		sum := sha256.Sum256(txn)
		body := binary.AppendUvarint(binary.AppendUvarint(nil, id), count)
		yield(sealEntry(typeFlip, append(binary.AppendUvarint(body, uint64(len(sum))), sum[:]...)))
	}
}

// termError is what a caller hears when the log failed: only ErrNotLeader promises that nothing was written.
func termError(err error) error {
	if errors.Is(err, ErrNotLeader) || errors.Is(err, ErrUnknown) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}
