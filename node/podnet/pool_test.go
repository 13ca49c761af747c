package podnet

import (
	"net/netip"
	"testing"
)

func TestPoolHandsOutEveryUsableAddressOnce(t *testing.T) {
	for prefix, want := range map[string]int{"10.0.0.0/24": 253, "10.0.0.8/29": 5, "10.0.0.0/30": 1, "fd00::/125": 6} {
		p := newPool(netip.MustParsePrefix(prefix))
		seen := map[netip.Addr]bool{}
		for address, ok := p.take(); ok; address, ok = p.take() {
			if seen[address] || !p.pods.Contains(address) || address == gateway(p.pods) {
				t.Fatalf("%s: handed out %s", prefix, address)
			}
			seen[address] = true
		}
		if len(seen) != want {
			t.Errorf("%s: %d addresses, want %d", prefix, len(seen), want)
		}
	}
}

func TestPoolReusesTheLongestFreeLast(t *testing.T) {
	p := newPool(netip.MustParsePrefix("10.0.0.0/29"))
	first, _ := p.take()
	p.put(first)
	if second, _ := p.take(); second == first {
		t.Errorf("%s was handed out twice in a row", first)
	}
}

func TestPoolResetSparesWhatIsUnderway(t *testing.T) {
	p := newPool(netip.MustParsePrefix("10.0.0.0/29"))
	underway, _ := p.take()
	dead, _ := p.take()
	p.plugged(dead)
	live := netip.MustParseAddr("10.0.0.5")
	p.reset(map[string]netip.Addr{"live": live})
	free := map[netip.Addr]bool{}
	for address, ok := p.take(); ok; address, ok = p.take() {
		free[address] = true
	}
	if free[underway] || free[live] || !free[dead] {
		t.Errorf("free: %v; %s is underway, %s alive, %s dead", free, underway, live, dead)
	}
}
