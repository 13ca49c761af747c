package kube

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mainstay-cluster/mainstay/object"
)

// Message says what a validation error means, in one line for a person: the rule and, in brackets, what was found.
// It leaves out the field, and every value of a Secret or of a container's environment.
func Message(kind string, err *field.Error) string {
	hidden, found := isSecret(kind, err.Field), ""
	if !hidden {
		found = got(err.BadValue)
	}
	detail := plain(err.Detail)
	switch err.Type {
	case field.ErrorTypeRequired:
		if err.Field == "metadata.name" {
			return "is required" // Kubernetes offers generateName instead, which Git cannot use
		}
		return join("is required", detail)
	case field.ErrorTypeNotFound:
		return "names nothing that is declared here" + found
	case field.ErrorTypeDuplicate:
		return "is given twice" + found
	case field.ErrorTypeForbidden:
		return detail
	case field.ErrorTypeNotSupported:
		return join("is not one of the known values", strings.TrimPrefix(detail, "supported values: ")) + found
	case field.ErrorTypeTooLong, field.ErrorTypeTooMany:
		return detail
	case field.ErrorTypeInternal:
		return join("cannot be checked", detail)
	}
	if hidden && err.BadValue == redacted {
		return "is not JSON, which this type of Secret needs here"
	}
	return detail + found
}

// redacted is what Kubernetes puts in the place of a Secret's value when it says, in words that may quote it, what is wrong with it.
const redacted = "<secret contents redacted>"

// plain leaves out of Kubernetes' words the regular expression that repeats them.
func plain(detail string) string {
	if i := strings.Index(detail, ", regex used for validation is '"); i >= 0 {
		if end := strings.Index(detail[i:], "')"); end >= 0 {
			detail = detail[:i] + detail[i+end+1:]
		}
	}
	return object.Printable(detail)
}

// isSecret reports whether values of the field may not be shown: those of a Secret, and of environment variables.
func isSecret(kind, path string) bool {
	if kind == "Secret" {
		return strings.HasPrefix(path, "data") || strings.HasPrefix(path, "stringData")
	}
	return strings.Contains(path, ".env[") && strings.HasSuffix(path, "].value")
}

func join(what, detail string) string {
	if detail == "" {
		return what
	}
	return what + ": " + detail
}

// got shows a simple value, in quotes if it is text; of anything else the position is enough.
func got(value any) string {
	v := reflect.ValueOf(value)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String:
		if v.Len() == 0 {
			return ""
		}
		return fmt.Sprintf(" (got %s)", strconv.Quote(object.Shorten(v.String())))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Bool:
		return fmt.Sprintf(" (got %v)", v.Interface())
	}
	return ""
}

// authorName is the name in "name <address>".
func authorName(author string) string {
	name, _, _ := strings.Cut(author, " <")
	return object.Shorten(name)
}

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}
