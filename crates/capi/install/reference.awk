# What doxygen reads of a header. Lines stay where they are, so that its complaints name the right ones.
#
# The comment at the top, which is plain text, becomes a page: the first one of echoloop.h, that of the file for an
# adapter. Of an adapter only what has a comment of two stars follows, functions without their bodies: the rest of it
# is there because it has no library of its own, and is nothing that a program calls.

NR == 1 {
    adapter = FILENAME ~ /\/echoloop\/adapters\/[^\/]*$/
    print adapter ? "/** @file" : "/** @file */ /** @mainpage echoloop"
    manual = 1
    next
}

manual {
    if ($0 ~ /^ \*\//) manual = 0
    if (!adapter && $0 ~ /^ \* [A-Z][A-Z \/,]+$/) {
        name = tolower(substr($0, 4))
        gsub(/[^a-z]/, "_", name)
        print " * @section " name " " substr($0, 4)
    } else print
    next
}

# A heading begins a group of functions, which ends before the next one, the last one on the empty line before the end
# of C++'s linkage. So a line is printed when the next one is known.
!adapter && /^\/\* == .* == \*\/$/ {
    $0 = (grouped ? "/** @} */ " : "") "/** @name " substr($0, 7, length - 12) " */ /** @{ */"
    grouped = 1
}
!adapter && grouped && /^#ifdef __cplusplus$/ { held = "/** @} */"; grouped = 0 }
!adapter { if (holding) print held; held = $0; holding = 1; next }
END { if (holding) print held }

# In an adapter: a comment, and what it is about. That ends with the bracket of a struct, before the body of a function,
# or with a semicolon. Members of a struct have comments of one star.
/^\/\*\*/ { shown = "comment" }
shown == "" { print ""; next }
shown == "comment" { print; if (/\*\/$/) shown = "head"; next }
shown == "head" && /[{]$/ && length > 1 { shown = "struct" }
shown == "struct" {
    sub(/^ +\/\*/, "&*")
    sub(/; \/\*/, "&*<")
    print
    if (/^[}]/) shown = ""
    next
}
/^[{]/ { print ";"; shown = ""; next }
{ print; if (/;$/) shown = "" }
