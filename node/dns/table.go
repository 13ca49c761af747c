package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/third_party/forked/golang/btree"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
)

const (
	// zone is the part of all names that is answered here and nowhere else.
	zone = object.ClusterDomain + "."
	// schema is the version of Kubernetes' DNS specification that the names follow.
	schema = "1.1.0"
	// degree of the trees, as in the store.
	degree  = 32
	reverse = ".in-addr.arpa."
)

// table is all names of the cluster at one moment. One that look-ups use is never changed: fork makes the next one of it,
// which shares all that stays.
type table struct {
	services *btree.BTree[service]
	back     *btree.BTree[pointer]
	pods     []netip.Prefix // of all nodes
	own      []netip.Prefix // these, and of Services: names of addresses in them are the cluster's alone
}

// service is a row: the names of the Service at key, which is namespace/name.
type service struct {
	key   string
	names *names
}

// pointer is a row: the reverse name of an address and a name that has it.
type pointer struct{ reverse, target string }

func lessPointer(a, b pointer) bool {
	return a.reverse < b.reverse || a.reverse == b.reverse && a.target < b.target
}

func newTable() *table {
	return &table{
		services: btree.New(degree, func(a, b service) bool { return a.key < b.key }),
		back:     btree.New(degree, lessPointer),
	}
}

// fork returns a copy that can be changed while t is looked at.
func (t *table) fork() *table {
	return &table{services: t.services.Clone(), back: t.back.Clone(), pods: t.pods, own: t.own}
}

// update takes in what has changed.
func (t *table) update(n *link.Network, changed link.NetworkChange) {
	if changed.Whole {
		fresh := newTable()
		t.services, t.back = fresh.services, fresh.back
		for key := range n.Services {
			t.set(n, key)
		}
	}
	for _, key := range changed.Services {
		t.set(n, key)
	}
	if changed.Whole || changed.Peers {
		t.pods = nil
		for _, peer := range n.Peers {
			if pods, err := netip.ParsePrefix(peer.PodCIDR); err == nil { // it has none yet, else
				t.pods = append(t.pods, pods.Masked())
			}
		}
		t.own = slices.Clone(t.pods)
		if services, err := netip.ParsePrefix(n.Ranges.Services); err == nil { // kept from a server that did not tell it, else
			t.own = append(t.own, services.Masked())
		}
	}
}

// set brings the rows of one Service in line with n.
func (t *table) set(n *link.Network, key types.NamespacedName) {
	row := service{key: key.Namespace + "/" + key.Name}
	under := key.Name + "." + key.Namespace + ".svc." + zone
	if old, ok := t.services.Delete(row); ok {
		for address, host := range old.names.pointers {
			t.back.Delete(newPointer(address, host, under))
		}
	}
	svc := n.Services[key]
	if svc == nil {
		return
	}
	row.names = namesOf(svc, n.EndpointSlicesOf(key))
	t.services.ReplaceOrInsert(row)
	for address, host := range row.names.pointers {
		t.back.ReplaceOrInsert(newPointer(address, host, under))
	}
}

// hasService says whether a name of one label is that of a Service of any namespace. Who asks for it alone has come to the end
// of a search path, because the Service has no endpoint or is another namespace's: that is no failure of others' nameservers.
func (t *table) hasService(name string) (has bool) {
	label := strings.TrimSuffix(name, ".")
	if strings.Contains(label, ".") {
		return false
	}
	t.services.Ascend(func(row service) bool {
		has = strings.HasSuffix(row.key, "/"+label)
		return !has
	})
	return has
}

func newPointer(address netip.Addr, host, under string) pointer {
	name, err := dns.ReverseAddr(address.String())
	if err != nil {
		panic("dns: an address has no reverse name: " + err.Error()) // netip's text is what it parses
	}
	return pointer{reverse: name, target: below(host, under)}
}

// below puts a label before a name; none if it is empty.
func below(label, name string) string {
	if label == "" {
		return name
	}
	return label + "." + name
}

// found is what there is of one name. The zero value: the name does not exist.
type found struct {
	exists    bool
	alias     string
	addresses []netip.Addr
	services  []port
	of        *names // whose services they are
	pointers  []string
	text      string
}

// holds tells whether only this table can know about a name, which is in lower case and ends with a dot: all others are
// asked for elsewhere.
func (t *table) holds(name string) bool {
	if name == zone || strings.HasSuffix(name, "."+zone) {
		return true
	}
	if len(t.pointersOf(name)) > 0 {
		return true
	}
	_, inside := t.rangeOf(name)
	return inside
}

// rangeOf is the range of the cluster's that the address of a reverse name is in.
func (t *table) rangeOf(name string) (netip.Prefix, bool) {
	address, ok := addressOf(name)
	if !ok {
		return netip.Prefix{}, false
	}
	for _, own := range t.own {
		if own.Contains(address) {
			return own, true
		}
	}
	return netip.Prefix{}, false
}

// addressOf turns d.c.b.a.in-addr.arpa. into a.b.c.d.
func addressOf(name string) (netip.Addr, bool) {
	text, ok := strings.CutSuffix(name, reverse)
	if !ok {
		return netip.Addr{}, false
	}
	address, err := netip.ParseAddr(text)
	if err != nil || !address.Is4() {
		return netip.Addr{}, false
	}
	b := address.As4()
	return netip.AddrFrom4([4]byte{b[3], b[2], b[1], b[0]}), true
}

// find looks a name up that the table holds.
func (t *table) find(name string) found {
	if !strings.HasSuffix(name, zone) {
		pointers := t.pointersOf(name)
		return found{exists: len(pointers) > 0, pointers: pointers}
	}
	labels := dns.SplitDomainName(strings.TrimSuffix(name, zone))
	if len(labels) == 0 {
		return found{exists: true}
	}
	last := len(labels) - 1
	switch rest := labels[:last]; labels[last] {
	case "svc":
		return t.findService(rest)
	case "pod":
		return t.findPod(rest)
	case "dns-version":
		return found{exists: len(rest) == 0, text: schema}
	}
	return found{}
}

func (t *table) pointersOf(name string) (targets []string) {
	t.back.AscendGreaterOrEqual(pointer{reverse: name}, func(p pointer) bool {
		if p.reverse != name {
			return false
		}
		targets = append(targets, p.target)
		return true
	})
	return targets
}

// findService looks up labels before svc.cluster.local.
func (t *table) findService(labels []string) found {
	n := len(labels)
	switch n {
	case 0:
		return found{exists: true}
	case 1:
		return found{exists: t.hasServices(labels[0])}
	}
	row, ok := t.services.Get(service{key: labels[n-1] + "/" + labels[n-2]})
	if !ok {
		return found{}
	}
	return row.names.find(labels[:n-2])
}

// hasServices tells whether the namespace has any: what has a name below it exists.
func (t *table) hasServices(namespace string) (any bool) {
	prefix := namespace + "/"
	t.services.AscendGreaterOrEqual(service{key: prefix}, func(row service) bool {
		any = strings.HasPrefix(row.key, prefix)
		return false
	})
	return any
}

// findPod looks up labels before pod.cluster.local: an address with dashes and a namespace. Which Pods there are, and where,
// is not known here; only for addresses of Pods is the name vouched for.
func (t *table) findPod(labels []string) found {
	if len(labels) < 2 {
		return found{exists: true}
	}
	address, err := netip.ParseAddr(strings.ReplaceAll(labels[0], "-", "."))
	if err != nil || len(labels) > 2 {
		return found{}
	}
	for _, pods := range t.pods {
		if pods.Contains(address) {
			return found{exists: true, addresses: []netip.Addr{address}}
		}
	}
	return found{}
}
