package kube

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mainstay-cluster/mainstay/object"
)

// Unsupported has an error for every field and value in raw that Mainstay does not carry out (P9). raw is a manifest
// of kind k as it was written, before defaults: maps, lists and scalars as encoding/json makes them, though numbers may be
// of any type. A field that is null counts as not written. Errors are in the order of the fields' names.
func Unsupported(k object.Kind, raw map[string]any) field.ErrorList {
	tree := fieldTrees()[k.Kind]
	if tree == nil {
		return field.ErrorList{field.Forbidden(nil, k.Kind+" objects are made by Mainstay, not declared")}
	}
	return tree.check(nil, raw)
}

func (n *node) check(at *field.Path, value any) field.ErrorList {
	if value == nil {
		return nil
	}
	if n.refuse != "" {
		return n.refused(at, value)
	}
	if list, ok := value.([]any); ok {
		var errs field.ErrorList
		for i, item := range list {
			errs = append(errs, n.check(at.Index(i), item)...)
		}
		return errs
	}
	if n.values != nil && !slices.Contains(n.values, fmt.Sprint(value)) {
		return field.ErrorList{field.Invalid(at, value, "this value is not carried out by this version of Mainstay: want "+strings.Join(n.values, " or "))}
	}
	fields, ok := value.(map[string]any)
	if !ok || n.below == nil {
		return nil
	}
	return n.checkFields(at, fields)
}

func (n *node) checkFields(at *field.Path, fields map[string]any) (errs field.ErrorList) {
	for _, key := range sortedKeys(fields) {
		if fields[key] == nil {
			continue
		}
		child := at.Child(key)
		if n.keyed {
			child = at.Key(key)
		}
		if below := n.below[key]; below != nil {
			errs = append(errs, below.check(child, fields[key])...)
			continue
		}
		errs = append(errs, field.Forbidden(child, "is not carried out by this version of Mainstay: remove it (docs/kinds.md lists what is)"))
	}
	return errs
}

// refused lets an empty list pass, and an empty status: generators write `status: {}`, and they say nothing.
func (n *node) refused(at *field.Path, value any) field.ErrorList {
	if list, ok := value.([]any); ok && len(list) == 0 {
		return nil
	}
	if empty, ok := value.(map[string]any); ok && len(empty) == 0 && at.String() == "status" {
		return nil
	}
	return field.ErrorList{field.Forbidden(at, n.refuse)}
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
