# Red if a line is not "name,0.00". A file that a gate names is part of the gate, and a change to it waits for your
# answer; so this one says *.csv.
! grep -nvE '^[a-z]+,[0-9]+\.[0-9]{2}$' *.csv
