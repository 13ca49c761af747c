package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/object"
	"github.com/mainstay-cluster/mainstay/object/kube"
	"github.com/mainstay-cluster/mainstay/state"
	"github.com/mainstay-cluster/mainstay/state/tables"
)

// networkView is the network at one version of the store. It is never changed.
type networkView struct {
	snap    *state.Snapshot
	floor   state.Version   // changes after it are all in log
	log     []networkChange // in no order within one view's share
	newest  state.Version   // of the changes in log
	settled bool            // all was known once, so that a whole answer is no outage

	*answers
}

// answers are those that were encoded so far. Views in which nodes are told the same share them: most versions of the store say nothing
// of the network.
type answers struct {
	mu      sync.Mutex
	encoded map[state.Version][]byte // by what they follow upon; guarded by mu
}

func newAnswers() *answers { return &answers{encoded: map[state.Version][]byte{}} }

// networkChange says that something a node knows of the network has changed.
type networkChange struct {
	version state.Version
	ref     link.NetworkRef
}

func newNetworkView(snap *state.Snapshot) *networkView {
	return &networkView{snap: snap, floor: snap.Version, settled: allIsKnown(snap), answers: newAnswers()}
}

// next is the view at snap, after changes. Views share one log, of which each sees only as much as there was.
func (v *networkView) next(snap *state.Snapshot, changes []networkChange) *networkView {
	settled := v.settled || allIsKnown(snap)
	if len(changes) == 0 && settled == v.settled {
		same := *v
		same.snap = snap
		return &same
	}
	log, floor, newest := append(v.log, changes...), v.floor, v.newest
	for _, c := range changes {
		newest = max(newest, c.version)
	}
	if len(log) > 2*maxNetworkLog {
		gone := log[:len(log)-maxNetworkLog]
		for _, c := range gone {
			floor = max(floor, c.version)
		}
		log = append([]networkChange(nil), log[len(gone):]...)
	}
	return &networkView{
		snap: snap, floor: floor, log: log, newest: newest, settled: settled, answers: newAnswers(),
	}
}

// allIsKnown tells that the desired state and what nodes run have been taken in. A server that lost its store learns both anew,
// and until then would call gone what nodes rely on.
func allIsKnown(r state.Reader) bool {
	cluster := clusterOf(r)
	return cluster.Status.Revision != "" && !object.IsRecovering(cluster) && everyServiceHasSlices(r)
}

// everyServiceHasSlices tells that the endpoints controller has been everywhere once.
func everyServiceHasSlices(r state.Reader) bool {
	for svc := range state.List[*corev1.Service](r, "") {
		if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		has := false
		for range state.ListBy(r, tables.SlicesByService, svc.Namespace+"/"+svc.Name) {
			has = true
			break
		}
		if !has {
			return false
		}
	}
	return true
}

// differs says whether a node that was told of the network at version known has missed anything; 0 is one that was told nothing.
func (v *networkView) differs(known state.Version) bool {
	return known == 0 || known < v.floor || known < v.newest
}

// since is the answer for a node that was told of the network at version known, encoded.
func (v *networkView) since(store string, known state.Version) ([]byte, error) {
	if known < v.floor {
		known = 0
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if body, ok := v.encoded[known]; ok {
		return body, nil
	}
	resp := link.NetworkResponse{Store: store, Version: uint64(v.snap.Version), Ranges: v.ranges()}
	if known == 0 {
		v.everything(&resp)
	} else {
		v.changes(&resp, known)
	}
	body, err := json.Marshal(resp)
	if err != nil {
		return nil, fmt.Errorf("encode the network: %w", err)
	}
	v.encoded[known] = body
	return body, nil
}

func (v *networkView) ranges() link.Ranges {
	spec := clusterOf(v.snap).Spec
	return link.Ranges{
		Pods: cmp.Or(spec.PodCIDR, kube.DefaultPodCIDR), Services: cmp.Or(spec.ServiceCIDR, kube.DefaultServiceCIDR),
	}
}

func (v *networkView) everything(resp *link.NetworkResponse) {
	resp.Whole = true
	for _, kind := range networkKinds {
		for ref := range kind.refs(v.snap) {
			kind.add(v.snap, ref, resp)
		}
	}
}

// changes adds each thing once, however often it changed, as it is now.
func (v *networkView) changes(resp *link.NetworkResponse, known state.Version) {
	told := map[link.NetworkRef]bool{}
	for _, c := range v.log {
		if c.version <= known || told[c.ref] {
			continue
		}
		told[c.ref] = true
		if !kindNamed(c.ref.Kind).add(v.snap, c.ref, resp) {
			resp.Gone = append(resp.Gone, c.ref)
		}
	}
}
