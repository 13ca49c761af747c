package state

import (
	"fmt"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mainstay-cluster/mainstay/object"
)

// Version counts changes of the store: one for each object that an entry creates, changes or deletes. It is an object's
// resourceVersion, dense and totally ordered, so a watch that resumes after any version misses nothing.
type Version uint64

// Key names an object within its kind. Namespace is "" for cluster-scoped kinds.
type Key struct{ Namespace, Name string }

// KeyOf is the key of an object.
func KeyOf(o object.Object) Key { return Key{o.GetNamespace(), o.GetName()} }

func (k Key) String() string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

func (k Key) compare(other Key) int {
	if c := strings.Compare(k.Namespace, other.Namespace); c != 0 {
		return c
	}
	return strings.Compare(k.Name, other.Name)
}

// Schema says which kinds a store holds and by what they are indexed. It is complete before New and never changes after.
type Schema struct {
	specs  []*tableSpec
	byType map[reflect.Type]int
	byGVK  map[schema.GroupVersionKind]int
	byName map[string]int // by kindName
	levels Levels
}

type tableSpec struct {
	kind      object.Kind
	indexes   []indexSpec
	hasStatus bool
	hasSpec   bool
}

type indexSpec struct {
	name string
	keys func(object.Object) []string
}

// Register adds a kind to the schema.
func Register(s *Schema, k object.Kind) {
	typ := reflect.TypeOf(k.New())
	if _, ok := s.byType[typ]; ok {
		panic(fmt.Sprintf("state: %s is registered twice", k.Kind))
	}
	if s.byType == nil {
		s.byType, s.byGVK, s.byName = map[reflect.Type]int{}, map[schema.GroupVersionKind]int{}, map[string]int{}
	}
	_, hasStatus := typ.Elem().FieldByName("Status")
	_, hasSpec := typ.Elem().FieldByName("Spec")
	s.byType[typ], s.byGVK[k.GroupVersionKind], s.byName[kindName(k.GroupVersionKind)] = len(s.specs), len(s.specs), len(s.specs)
	s.specs = append(s.specs, &tableSpec{kind: k, hasStatus: hasStatus, hasSpec: hasSpec})
}

// Index finds objects of type T by values computed from them. Its zero value is useless; define one with NewIndex and
// add it to a schema with AddIndex.
type Index[T object.Object] struct {
	name string
	keys func(T) []string
}

// NewIndex defines an index. The name is unique within T; keys is pure and lists the values that o is found by.
func NewIndex[T object.Object](name string, keys func(o T) []string) Index[T] {
	return Index[T]{name: name, keys: keys}
}

// AddIndex makes every store of the schema keep ix. The kind of T must be registered before.
func AddIndex[T object.Object](s *Schema, ix Index[T]) {
	spec := s.specs[tableOf[T](s)]
	spec.indexes = append(spec.indexes, indexSpec{ix.name, func(o object.Object) []string { return ix.keys(o.(T)) }})
}

func tableOf[T object.Object](s *Schema) int {
	i, ok := s.byType[reflect.TypeFor[T]()]
	if !ok {
		panic(fmt.Sprintf("state: %s is not in the schema", reflect.TypeFor[T]()))
	}
	return i
}

func (s *Schema) tableOfObject(o object.Object) int {
	i, ok := s.byType[reflect.TypeOf(o)]
	if !ok {
		panic(fmt.Sprintf("state: %T is not in the schema", o))
	}
	return i
}

func (s *Schema) tableOfKind(k object.Kind) int {
	i, ok := s.byGVK[k.GroupVersionKind]
	if !ok {
		panic(fmt.Sprintf("state: %s is not in the schema", k.GroupVersionKind))
	}
	return i
}
