package raftlog

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/state"
)

// powered is a disk of its own whose power can be cut: what was not synced is gone then.
type powered struct{ image, dir string }

func newPowered(t *testing.T) powered {
	t.Helper()
	d := powered{image: filepath.Join(t.TempDir(), "disk"), dir: t.TempDir()}
	f, err := os.Create(d.image)
	if err == nil {
		err = f.Truncate(64 << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	command(t, "mkfs.ext4", "-q", d.image)
	t.Cleanup(func() { _ = exec.Command("umount", d.dir).Run() })
	return d
}

func command(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

func (d powered) on(t *testing.T) { command(t, "mount", "-o", "loop", d.image, d.dir) }

func (d powered) cut(t *testing.T) {
	t.Helper()
	const shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN
	withoutFlushing := uint32(2)
	f, err := os.Open(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), shutdown, uintptr(unsafe.Pointer(&withoutFlushing))); errno != 0 {
		t.Fatal(errno)
	}
}

// P10: what was acknowledged is there after the machine lost its power, also with writes under way.
func TestP10AnAcknowledgedWriteSurvivesAPowerCut(t *testing.T) {
	const cuts, writers, each = 3, 4, 10
	disk := newPowered(t)
	var mu sync.Mutex
	acknowledged := map[string]bool{} // guarded by mu
	for life := range cuts + 1 {
		disk.on(t)
		ended := t.Run(fmt.Sprint("life ", life), func(t *testing.T) {
			m := newMember(t, Config{Dir: filepath.Join(disk.dir, "raft"), ID: "s1", Bootstrap: true})
			m.awaitLeading(t)
			for name := range acknowledged {
				if _, ok := state.Get[*corev1.ConfigMap](m.store.View(), state.Key{Namespace: "default", Name: name}); !ok {
					t.Errorf("%s was acknowledged and is gone", name)
				}
			}
			if life == cuts {
				return
			}
			var busy, written sync.WaitGroup
			written.Add(writers)
			for w := range writers {
				busy.Go(func() {
					for i := 0; ; i++ {
						name := fmt.Sprintf("life%d-writer%d-%d", life, w, i)
						if i == each {
							written.Done()
						}
						if err := m.create(name, 2000); err != nil {
							if i < each {
								t.Error(err)
								written.Done()
							}
							return
						}
						mu.Lock()
						acknowledged[name] = true
						mu.Unlock()
					}
				})
			}
			written.Wait()
			disk.cut(t)
			busy.Wait()
		})
		if command(t, "umount", disk.dir); !ended {
			return
		}
	}
	if len(acknowledged) < cuts*writers*each {
		t.Errorf("only %d writes were acknowledged", len(acknowledged))
	}
}
