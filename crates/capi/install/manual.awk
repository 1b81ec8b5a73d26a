# Makes the manual page echoloop(3) of include/echoloop.h:
#
#     awk -v version=0.1.0 -f manual.awk include/echoloop.h >echoloop.3
#
# The comment at the top of the header becomes its sections: a line of capitals is a heading, what is indented stays as
# it is, the rest is filled. Each function follows with what its comment says, under the heading of its group. The rule:
# no text that the header lacks, save the frame of every manual page.

# Text as roff reads it: no character of it means anything.
function escaped(text) {
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    gsub(/'/, "\\(aq", text)
    gsub(/`/, "\\(ga", text)
    gsub(/\^/, "\\(ha", text)
    gsub(/~/, "\\(ti", text)
    return text ~ /^\./ ? "\\&" text : text
}

# The same, with the names of functions in bold.
function prose(text,    done) {
    text = escaped(text)
    while (match(text, /echoloop_[a-z0-9_]+\(\)/)) {
        done = done substr(text, 1, RSTART - 1) "\\fB" substr(text, RSTART, RLENGTH - 2) "\\fP()"
        text = substr(text, RSTART + RLENGTH)
    }
    return done text
}

function as_it_is(wanted) {
    if (wanted == verbatim) return
    print wanted ? ".PP\n.in +2n\n.EX" : ".EE\n.in -2n\n.PP"
    verbatim = wanted
}

function manual_line(text) {
    if (text ~ /^[A-Z][A-Z \/,]+$/) {
        as_it_is(0)
        print ".SH " (text ~ / / ? "\"" text "\"" : text)
    } else if (text == "") {
        blank = 1 # Whether it ends what is verbatim is known from the line after it.
        return
    } else if (text ~ /^    /) {
        if (verbatim && blank) print ""
        as_it_is(1)
        print escaped(substr(text, 5))
    } else {
        if (!verbatim && blank && paragraphs) print ".PP"
        as_it_is(0)
        print prose(text)
    }
    blank = 0
    paragraphs = text !~ /^[A-Z][A-Z \/,]+$/
}

function function_entry(    at) {
    # The name is where the arguments begin; what stands before it is its type.
    gsub(/[ \t]+/, " ", prototype)
    gsub(/struct /, "", prototype)
    match(prototype, /echoloop_[a-z0-9_]+\(/)
    at = RSTART + RLENGTH - 1
    print ".TP"
    print escaped(substr(prototype, 1, RSTART - 1)) "\\fB" substr(prototype, RSTART, RLENGTH - 1) "\\fP" \
        escaped(substr(prototype, at))
    printf "%s", comment
}

NR == 1 { inside = 1; next }

inside && /^ \*\// {
    as_it_is(0)
    inside = 0
    print ".SH FUNCTIONS"
    next
}

inside && !summary {
    summary = $0
    sub(/^ \* echoloop: /, "", summary)
    sub(/\..*/, "", summary)
    print ".\\\" Made of echoloop.h by manual.awk."
    print ".TH echoloop 3 \"\" \"echoloop " version "\""
    print ".nh\n.ad l" # Names of functions are not to be broken.
    print ".SH NAME\necholoop \\- " escaped(summary)
    print ".SH SYNOPSIS\n.nf\n\\fB#include <echoloop.h>\\fP"
    print ".PP\n\\fBcc\\fP \\fIprogram.c\\fP \\fB$(pkg\\-config \\-\\-cflags \\-\\-libs echoloop)\\fP\n.fi"
    next
}

inside {
    line = substr($0, 4)
    if (line ~ /^[A-Z][A-Z \/,]+$/) headed = 1
    if (headed) manual_line(line)
    next
}

/^\/\* == .* == \*\/$/ { print ".SS " escaped(substr($0, 7, length - 12)); next }

# A comment belongs to the declaration that follows it; only functions of the library have a bracket after a name.
/^\/\*\*$/ { comment = ""; prototype = ""; commenting = 1; next }
/^ \*\/$/ { commenting = 0; next }
commenting { line = substr($0, 4); comment = comment (line == "" ? ".IP" : prose(line)) "\n"; next }
/^[a-z].*echoloop_[a-z0-9_]+\(/ && !/^typedef/ { prototype = $0 }
/^[ ]/ && prototype != "" { prototype = prototype $0 }
/;$/ { if (prototype != "") function_entry(); prototype = ""; comment = "" }

END {
    print ".SH \"SEE ALSO\"\n\\fBecholoop\\fP(1), \\fBepoll\\fP(7), \\fBtcp\\fP(7), \\fBpkg\\-config\\fP(1)"
    print ".PP\nTypes and constants, and what each stands for, are in"
    print ".IR <echoloop.h> ,\nadapters for event loops of other libraries in"
    print ".IR <echoloop/adapters/> ."
}
