package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/mainstay-cluster/mainstay/object"
)

// updateTries bounds how often Update runs its function: a conflict that outlives this many newer snapshots is a fight
// between two writers, which the caller should hear of.
const updateTries = 8

// maxObject is the largest object, encoded: Kubernetes' limit by way of etcd.
const maxObject = 3 << 19

// Txn collects the writes of one transaction and reads its own writes. It is for one goroutine and ends with Update's function.
// Its methods report the first error through Update. What the fields of an object given to it point to is not changed
// afterwards: later reads of the same transaction share it.
type Txn struct {
	base   *Snapshot
	tables []*table // forks of base's where this transaction wrote
	ops    []op
	now    time.Time
	err    error
}

func (tx *Txn) definition() *Schema { return tx.base.schema }

func (tx *Txn) table(i int) *table {
	if tx.tables != nil && tx.tables[i] != nil {
		return tx.tables[i]
	}
	return tx.base.tables[i]
}

func (tx *Txn) own(i int) *table {
	if tx.tables == nil {
		tx.tables = make([]*table, len(tx.base.tables))
	}
	if tx.tables[i] == nil {
		tx.tables[i] = tx.base.tables[i].fork()
	}
	return tx.tables[i]
}

// Update runs fn on the latest snapshot and commits all it wrote, or nothing; it returns once that is applied here. On
// ErrConflict it runs fn again on a newer snapshot, 8 times at most, so fn must have no effects but its writes. The version
// is one at which the writes are visible.
func (s *Store) Update(ctx context.Context, fn func(*Txn) error) (Version, error) {
	var err error
	for range updateTries {
		tx := &Txn{base: s.View(), now: s.clock()}
		if err := fn(tx); err != nil {
			return 0, err
		}
		if tx.err != nil {
			err = tx.err
		} else if len(tx.ops) == 0 {
			return tx.base.Version, nil
		} else if err = s.submit(ctx, encodeTxn(tx.ops)); err == nil {
			return s.View().Version, nil
		}
		if !errors.Is(err, ErrConflict) {
			return 0, err
		}
	}
	return 0, fmt.Errorf("gave up after %d tries: %w", updateTries, err)
}

// Writes is the number of operations collected so far, Require not counted.
func (tx *Txn) Writes() int {
	n := 0
	for _, o := range tx.ops {
		if o.verb != verbRequire {
			n++
		}
	}
	return n
}

// nameTries is how many names are drawn until one is free, as in Kubernetes (KEP-4420). Of five characters there are 14 million: of
// thousands that are drawn beside thousands, some are taken.
const nameTries = 8

func (tx *Txn) generateName(table int, o object.Object) {
	for range nameTries {
		o.SetName(o.GetGenerateName() + utilrand.String(5))
		if _, taken := tx.table(table).get(KeyOf(o)); !taken {
			return
		}
	}
}

// Create writes a new object; its key must be free. It sets uid, creationTimestamp and generation on o where they are
// empty, and a name from generateName.
func (tx *Txn) Create(o object.Object) {
	i := tx.base.schema.tableOfObject(o)
	if o.GetName() == "" && o.GetGenerateName() != "" {
		tx.generateName(i, o)
	}
	if o.GetUID() == "" {
		o.SetUID(uuid.NewUUID())
	}
	if created := o.GetCreationTimestamp(); created.IsZero() {
		o.SetCreationTimestamp(metav1.NewTime(tx.now.Truncate(time.Second)))
	}
	if tx.base.schema.specs[i].hasSpec && o.GetGeneration() == 0 {
		o.SetGeneration(1)
	}
	o.SetResourceVersion("")
	if _, exists := tx.table(i).get(KeyOf(o)); exists {
		tx.conflict(i, KeyOf(o), "exists already")
		return
	}
	tx.record(i, op{verb: verbCreate, uid: string(o.GetUID())}, o)
}

// Update writes metadata and spec of an existing object, which must still be at o's resourceVersion, and keeps its status.
// Equal content writes nothing. A changed spec raises the generation.
func (tx *Txn) Update(o object.Object) {
	i := tx.base.schema.tableOfObject(o)
	spec := tx.base.schema.specs[i]
	before, ok := tx.expect(i, o)
	if !ok {
		return
	}
	after := shallow(o)
	after.SetUID(before.obj.GetUID())
	after.SetCreationTimestamp(before.obj.GetCreationTimestamp())
	after.SetResourceVersion("")
	after.SetGeneration(before.obj.GetGeneration())
	if spec.hasSpec && !apiequality.Semantic.DeepEqual(field(before.obj, "Spec"), field(after, "Spec")) {
		after.SetGeneration(before.obj.GetGeneration() + 1)
	}
	if spec.hasStatus {
		clearField(after, "Status")
	}
	if !tx.same(spec, before.obj, after) {
		tx.record(i, op{verb: verbUpdate, version: before.version}, after)
	}
}

// SetStatus replaces the status of the object with o's key and uid, whatever its version. Equal status writes nothing.
func (tx *Txn) SetStatus(o object.Object) {
	i := tx.base.schema.tableOfObject(o)
	before, ok := tx.table(i).get(KeyOf(o))
	if !ok || before.obj.GetUID() != o.GetUID() {
		tx.conflict(i, KeyOf(o), "does not exist or was replaced by another of the same name")
		return
	}
	if apiequality.Semantic.DeepEqual(field(before.obj, "Status"), field(o, "Status")) {
		return
	}
	status := tx.base.schema.specs[i].kind.New()
	status.SetName(o.GetName())
	status.SetNamespace(o.GetNamespace())
	setField(status, o, "Status")
	tx.record(i, op{verb: verbSetStatus, uid: string(o.GetUID())}, status)
}

// Delete removes an object that must still be at o's resourceVersion.
func (tx *Txn) Delete(o object.Object) {
	i := tx.base.schema.tableOfObject(o)
	before, ok := tx.expect(i, o)
	if !ok {
		return
	}
	tx.own(i).remove(before.key)
	tx.push(i, op{verb: verbDelete, key: before.key, version: before.version})
}

// Require writes nothing, but fails the transaction if o has changed since this snapshot. It guards against write skew.
func (tx *Txn) Require(o object.Object) {
	i := tx.base.schema.tableOfObject(o)
	if before, ok := tx.expect(i, o); ok {
		tx.push(i, op{verb: verbRequire, key: before.key, version: before.version})
	}
}

// expect finds the object at o's key at o's resourceVersion.
func (tx *Txn) expect(i int, o object.Object) (row, bool) {
	before, ok := tx.table(i).get(KeyOf(o))
	if !ok {
		tx.conflict(i, KeyOf(o), "does not exist")
		return row{}, false
	}
	if want := formatVersion(before.version); o.GetResourceVersion() != want {
		tx.conflict(i, before.key, fmt.Sprintf("is at version %s, not %q", want, o.GetResourceVersion()))
		return row{}, false
	}
	return before, true
}

// same compares by encoded bytes: generated protobuf is deterministic, and JSON of our own kinds is too.
func (tx *Txn) same(spec *tableSpec, before, after object.Object) bool {
	stripped := shallow(before)
	stripped.SetResourceVersion("")
	if spec.hasStatus {
		clearField(stripped, "Status")
	}
	stripped.GetObjectKind().SetGroupVersionKind(after.GetObjectKind().GroupVersionKind())
	a, errA := marshal(stripped)
	b, errB := marshal(after)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// record encodes o as the payload of an operation and lets this transaction's reads see it.
func (tx *Txn) record(i int, operation op, o object.Object) {
	spec := tx.base.schema.specs[i]
	if err := tx.mayWrite(spec.kind); err != nil {
		tx.fail(err)
		return
	}
	payload, err := marshal(o)
	if err == nil && len(payload) > maxObject {
		err = fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(payload), maxObject)
	}
	if err != nil {
		tx.fail(fmt.Errorf("encode %s %s: %w", spec.kind.Kind, KeyOf(o), err))
		return
	}
	operation.key, operation.payload = KeyOf(o), payload
	t := tx.own(i)
	seen := row{key: operation.key, obj: shallow(o)}
	if before, ok := t.get(operation.key); ok {
		seen.version = before.version
		seen.obj = spec.merge(operation.verb, before.obj, seen.obj)
	}
	seen.obj.SetResourceVersion(formatVersion(seen.version))
	t.put(seen)
	tx.push(i, operation)
}

func (tx *Txn) push(i int, o op) {
	o.kind = kindName(tx.base.schema.specs[i].kind.GroupVersionKind)
	tx.ops = append(tx.ops, o)
}

func (tx *Txn) conflict(i int, k Key, reason string) {
	tx.fail(&ConflictError{Kind: tx.base.schema.specs[i].kind.Kind, Key: k, Reason: reason})
}

func (tx *Txn) fail(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

// formatVersion is a version as resourceVersion: "" for an object this transaction has only just created.
func formatVersion(v Version) string {
	if v == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(v), 10)
}
