package history

import (
	"fmt"
	"math"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

// judging bounds the search for an order of what happened. It takes milliseconds unless there is none.
const judging = time.Minute

// move is an operation on the register "generation in force".
type move struct {
	write bool // an activation; else a read
	value int
}

// register is the sequential truth: each activation is of a later commit than the one before, and a read shows the last one.
var register = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, _ any) (bool, any) {
		was, m := state.(int), input.(move)
		if m.write {
			return m.value > was, m.value
		}
		return m.value == was, was
	},
	DescribeOperation: func(input, _ any) string {
		if m := input.(move); m.write {
			return fmt.Sprintf("activate %d", m.value)
		} else {
			return fmt.Sprintf("read %d", m.value)
		}
	},
}

// Linearizable says if no order of activations and reads explains what was read at level Linear.
func (h *History) Linearizable() error {
	switch porcupine.CheckOperationsTimeout(register, h.operations(), judging) {
	case porcupine.Illegal:
		return fmt.Errorf("linearizable reads: no order of activations explains what was read; " +
			"linearizability.html shows how far one does")
	case porcupine.Unknown:
		return fmt.Errorf("linearizable reads: undecided after %s", judging)
	}
	return nil
}

// Draw writes a page that shows the search for an order.
func (h *History) Draw(path string) error {
	_, info := porcupine.CheckOperationsVerbose(register, h.operations(), judging)
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("draw history: %w", err)
	}
	defer f.Close()
	return porcupine.Visualize(register, info, f)
}

// operations are the activations, whose times nobody tells, and the reads. An activation began no sooner than the push and
// had happened when the first answer came that shows it or a later one. Commits that nobody saw may have been passed over.
func (h *History) operations() []porcupine.Operation {
	clients := map[string]int{}
	var ops []porcupine.Operation
	for i := range h.Reads {
		r := &h.Reads[i]
		if r.Level != Linear {
			continue
		}
		if _, known := clients[r.Client]; !known {
			clients[r.Client] = len(clients)
		}
		ops = append(ops, porcupine.Operation{ClientId: clients[r.Client], Input: move{value: r.Generation()}, Call: int64(r.Began), Return: int64(r.Ended)})
	}
	seen, done := h.seen(), time.Duration(math.MaxInt64)
	for n := len(h.Pushes) - 1; n > 0; n-- {
		at, ok := seen[n]
		if !ok {
			continue
		}
		done = min(done, at)
		ops = append(ops, porcupine.Operation{ClientId: len(clients), Input: move{write: true, value: n}, Call: int64(h.Pushes[n].Began), Return: int64(done)})
	}
	return ops
}

// seen is when the first answer came that shows a generation, from whomever.
func (h *History) seen() map[int]time.Duration {
	first := map[int]time.Duration{}
	note := func(generation int, at time.Duration) {
		if was, ok := first[generation]; !ok || at < was {
			first[generation] = at
		}
	}
	for i := range h.Reads {
		note(h.Reads[i].Generation(), h.Reads[i].Ended)
	}
	for e := range h.events() {
		if e.Generation >= 0 && e.Type != "DELETED" {
			note(e.Generation, e.At)
		}
	}
	return first
}
