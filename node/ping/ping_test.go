package ping

import (
	"context"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mainstay-cluster/mainstay/testhost"
)

func TestMain(m *testing.M) { testhost.Main(m) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func hosts(list ...string) (all []netip.Addr) {
	for _, text := range list {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

func open(t *testing.T) *Pinger {
	t.Helper()
	p, err := Open()
	check(t, err)
	t.Cleanup(func() { check(t, p.Close()) })
	return p
}

// run runs a command on the host that is the test's own.
func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

var byAddress = cmpopts.EquateComparable(netip.Addr{})

func TestARoundTellsWhoAnswers(t *testing.T) {
	p, other := open(t), open(t)
	all := hosts("127.0.0.1", "127.0.0.2", "192.0.2.1", "::1") // there is no way to the third
	for range 2 {
		got, err := p.Round(t.Context(), all, 200*time.Millisecond)
		check(t, err)
		want := map[netip.Addr]bool{all[0]: true, all[1]: true}
		if diff := cmp.Diff(want, got, byAddress); diff != "" {
			t.Errorf("answered (-want +got):\n%s", diff)
		}
	}
	got, err := other.Round(t.Context(), nil, 10*time.Millisecond)
	check(t, err)
	if len(got) > 0 {
		t.Errorf("%v answered to one who asked nobody", got)
	}
}

func TestAHostThatIgnoresEchoesHasNotAnswered(t *testing.T) {
	run(t, "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
	t.Cleanup(func() { run(t, "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=0") })
	got, err := open(t).Round(t.Context(), hosts("127.0.0.1"), 50*time.Millisecond)
	check(t, err)
	if len(got) > 0 {
		t.Errorf("%v answered", got)
	}
}

func TestARoundEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	start := time.Now()
	_, err := open(t).Round(ctx, nil, time.Hour)
	check(t, err)
	if took := time.Since(start); took > time.Minute {
		t.Errorf("it took %v", took)
	}
}
