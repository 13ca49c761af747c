package deployment

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/rand"
)

// Kubernetes' annotations, which kubectl's rollout commands read.
const (
	revisionAnnotation = "deployment.kubernetes.io/revision"
	historyAnnotation  = "deployment.kubernetes.io/revision-history"
	desiredAnnotation  = "deployment.kubernetes.io/desired-replicas"
	maxAnnotation      = "deployment.kubernetes.io/max-replicas"
)

// maxHistory bounds the annotation that lists a ReplicaSet's former revisions, in characters: Kubernetes' bound.
const maxHistory = 2000

// ours says which annotations a ReplicaSet does not take over from its Deployment.
func ours(key string) bool {
	switch key {
	case revisionAnnotation, historyAnnotation, desiredAnnotation, maxAnnotation,
		corev1.LastAppliedConfigAnnotation, appsv1.DeprecatedRollbackTo:
		return true
	}
	return false
}

// templateHash names a template as Kubernetes does. It hashes the template's JSON, not its Go value: that stays the same
// when a newer API gains fields, so a rebuilt cluster recognises the Pods it finds.
func templateHash(template *corev1.PodTemplateSpec, collisions *int32) string {
	encoded, err := json.Marshal(template)
	if err != nil {
		panic(fmt.Sprintf("deployment: a stored template cannot be encoded: %v", err))
	}
	h := fnv.New32a()
	h.Write(encoded)
	if collisions != nil {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(*collisions)))
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

// annotateCurrent keeps the current ReplicaSet's annotations and minReadySeconds like the Deployment's.
func (r *rollout) annotateCurrent() {
	rs := r.current.DeepCopy()
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	returned := r.annotate(rs)
	rs.Spec.MinReadySeconds = r.d.Spec.MinReadySeconds
	r.tx.Update(rs)
	r.find()
	if returned {
		r.progress("FoundNewReplicaSet", "Found new replica set "+strconv.Quote(rs.Name))
	}
}

// annotate gives rs, the current ReplicaSet or the one about to be, the Deployment's annotations and the highest revision.
// It says whether rs had a revision before and so is returned to.
func (r *rollout) annotate(rs *appsv1.ReplicaSet) (returned bool) {
	for key, value := range r.d.Annotations {
		if !ours(key) {
			rs.Annotations[key] = value
		}
	}
	highest := int64(0)
	for _, other := range r.sets {
		if other.Name != rs.Name {
			highest = max(highest, revisionOf(other))
		}
	}
	had := revisionOf(rs)
	if had > highest {
		return false
	}
	rs.Annotations[revisionAnnotation] = strconv.FormatInt(highest+1, 10)
	if had == 0 {
		return false
	}
	history := rs.Annotations[historyAnnotation]
	if history != "" {
		history += ","
	}
	rs.Annotations[historyAnnotation] = shorten(history + strconv.FormatInt(had, 10))
	return true
}

// shorten drops the oldest entries of a history that is too long.
func shorten(history string) string {
	for len(history) > maxHistory {
		_, history, _ = strings.Cut(history, ",")
	}
	return history
}

// annotateScale records for which scale of the Deployment a ReplicaSet was sized.
func annotateScale(rs *appsv1.ReplicaSet, wanted, surge int32) {
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	rs.Annotations[desiredAnnotation] = strconv.Itoa(int(wanted))
	rs.Annotations[maxAnnotation] = strconv.Itoa(int(wanted + surge))
}

// revisionOf is the revision of a ReplicaSet, 0 if it has none.
func revisionOf(rs *appsv1.ReplicaSet) int64 { return number(rs, revisionAnnotation) }

func number(rs *appsv1.ReplicaSet, annotation string) int64 {
	n, err := strconv.ParseInt(rs.Annotations[annotation], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func scaledMessage(name string, from, to int32) string {
	direction := "up"
	if to < from {
		direction = "down"
	}
	return fmt.Sprintf("Scaled %s replica set %s from %d to %d", direction, name, from, to)
}
