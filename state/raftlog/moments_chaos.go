//go:build chaos

package raftlog

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
)

// orderFile names the file in which somebody outside orders what is to happen next at which point: "POINT: WHAT". WHAT is one
// of orders. It is removed when that happens.
const orderFile = "MAINSTAY_CHAOS_ORDER"

var orders = map[string]syscall.Signal{"kill": syscall.SIGKILL, "terminate": syscall.SIGTERM, "pause": syscall.SIGSTOP}

// fromOutside obeys orders, in a program that was built with the tag chaos and is told of a file.
func fromOutside() moments {
	path := os.Getenv(orderFile)
	if path == "" {
		return nil
	}
	var mu sync.Mutex // an order is obeyed once
	return func(point string) error {
		mu.Lock()
		defer mu.Unlock()
		order, err := os.ReadFile(path)
		if err != nil {
			return nil // there is none
		}
		at, what, _ := strings.Cut(string(order), ": ")
		if at != point {
			return nil
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		return obey(what)
	}
}

func obey(what string) error {
	if what == "fail" {
		return syscall.EIO
	}
	signal, ok := orders[what]
	if !ok {
		return fmt.Errorf("nobody knows how to %s", what)
	}
	err := syscall.Kill(os.Getpid(), signal)
	if signal == syscall.SIGKILL {
		select {} // not one step further
	}
	return err
}
