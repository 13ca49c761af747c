package server

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// full has every turn taken, and returns what ends one.
func full(t *testing.T, h *handshakes) (leave func()) {
	t.Helper()
	for range handshakesAtOnce {
		var err error
		if leave, err = h.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return leave
}

// waitForTurn has one wait for a turn, and says when it came.
func waitForTurn(ctx context.Context, h *handshakes, name string, came chan<- string) {
	go func() {
		if _, err := h.enter(ctx); err == nil {
			came <- name
		}
	}()
	synctest.Wait()
}

func TestNewestClientGetsTheNextHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h handshakes
		leave, came, began := full(t, &h), make(chan string, 3), time.Now()
		gone, leaves := context.WithCancel(t.Context())
		waitForTurn(t.Context(), &h, "first", came)
		waitForTurn(t.Context(), &h, "second", came)
		waitForTurn(gone, &h, "third", came)
		leaves()
		synctest.Wait()
		leave()
		leave() // which ends it once
		synctest.Wait()
		if len(came) != 1 || <-came != "second" {
			t.Errorf("the turn that was free did not go to the newest of those that still wait, alone")
		}
		if got := <-came; got != "first" || time.Since(began) != handshakeTurn {
			t.Errorf("%s had a turn after %s, want the first when a turn is over by itself", got, time.Since(began))
		}
	})
}

func counted(h *handshakes) (taken, waiting int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.present, len(h.waiting)
}

// A turn that came just when its client left is not lost.
func TestHandshakesCountEveryTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h handshakes
		leave := full(t, &h)
		turn := h.ask()
		leave()
		h.withdraw(turn)
		if taken, _ := counted(&h); taken != handshakesAtOnce-1 {
			t.Errorf("%d turns are taken, want %d", taken, handshakesAtOnce-1)
		}
		time.Sleep(2 * handshakeTurn) // virtual: all end by themselves
		synctest.Wait()
		if taken, waiting := counted(&h); taken != 0 || waiting != 0 {
			t.Errorf("%d turns are taken and %d wait at the end, want none", taken, waiting)
		}
	})
}
