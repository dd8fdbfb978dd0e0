# Red if a line of a list has more than 80 characters.
! grep -nE '.{81}' *.txt
